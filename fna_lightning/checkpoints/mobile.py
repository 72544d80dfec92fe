"""Weight files of mobile networks: key names of published ones -> the project's own, and what shapes show.

Own names: `stages.0.{conv,norm}` is the stem, `stages.<number>.<layer>.{expand,depthwise,project}.{conv,norm}`
a layer, and `stages.<last>.{conv,norm}` the last 1x1 convolution (spec FNA 1.4 lists the others).
"""

from __future__ import annotations

import re

from fna_lightning.architectures import MobileArchitecture, Operation, Stage
from fna_lightning.checkpoints.dialects import PUBLISHED, READERS, Dialect, SeedReader, State
from fna_lightning.errors import ArchitectureError

MOBILENET_V2_STRIDES = (1, 2, 2, 2, 1, 2, 1)

_TENSOR = r"(?P<tensor>weight|bias|running_mean|running_var|num_batches_tracked)"

# A layer's; stem and last 1x1 have the same names in every kind of network.
_OWN = re.compile(r"stages\.\d+\.\d+\.(candidates\.\w+\.)?(expand|depthwise|project)\.")
# Submodules of a published block -> ours, for a block with and without expansion.
_FNA_PARTS = {
    True: {"0": "expand.conv", "1": "expand.norm", "3": "depthwise.conv", "4": "depthwise.norm",
           "6": "project.conv", "7": "project.norm"},
    False: {"0": "depthwise.conv", "1": "depthwise.norm", "3": "project.conv", "4": "project.norm"},
}  # fmt: skip
_TORCHVISION_PARTS = {
    True: {"0.0": "expand.conv", "0.1": "expand.norm", "1.0": "depthwise.conv", "1.1": "depthwise.norm",
           "2": "project.conv", "3": "project.norm"},
    False: {"0.0": "depthwise.conv", "0.1": "depthwise.norm", "1": "project.conv", "2": "project.norm"},
}  # fmt: skip
_PAIR = {"0": "conv", "1": "norm"}
_MOBILENET_V2_DEPTHS = (1, 2, 3, 4, 3, 3, 1)


def _native(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if key.startswith("stages.")}


def _fna(state: State) -> State:
    layer = re.compile(rf"blocks\.(\d+)\.layers\.(\d+)\.op\.(\d)\.{_TENSOR}")
    stem = re.compile(rf"blocks\.0\.([01])\.{_TENSOR}")
    last = re.compile(rf"blocks\.(\d+)\.conv\.([01])\.{_TENSOR}")
    expanded = {m.group(1, 2) for key in state if (m := layer.fullmatch(key)) and m[3] == "6"}
    native = {}
    for key, tensor in state.items():
        if m := layer.fullmatch(key):
            part = _FNA_PARTS[m.group(1, 2) in expanded].get(m[3])
            if part:
                native[f"stages.{m[1]}.{m[2]}.{part}.{m['tensor']}"] = tensor
        elif m := stem.fullmatch(key):
            native[f"stages.0.{_PAIR[m[1]]}.{m['tensor']}"] = tensor
        elif m := last.fullmatch(key):
            native[f"stages.{m[1]}.{_PAIR[m[2]]}.{m['tensor']}"] = tensor
    return native


def _densenas(state: State) -> State:
    """DenseNAS counts from the block that FNA calls 1."""
    layer = re.compile(
        rf"blocks\.(\d+)\.(?:head_layer|stack_layers\.(\d+))\._(expand|depthwise|project)_conv\.([01])\.{_TENSOR}"
    )
    plain = re.compile(rf"(input_block|conv1_1_block\.conv1_1)\.([01])\.{_TENSOR}")
    blocks = [int(m[1]) for key in state if (m := layer.fullmatch(key))]
    last = max(blocks, default=0) + 2
    native = {}
    for key, tensor in state.items():
        if m := layer.fullmatch(key):
            position = 0 if m[2] is None else int(m[2]) + 1
            native[f"stages.{int(m[1]) + 1}.{position}.{m[3]}.{_PAIR[m[4]]}.{m['tensor']}"] = tensor
        elif m := plain.fullmatch(key):
            number = 0 if m[1] == "input_block" else last
            native[f"stages.{number}.{_PAIR[m[2]]}.{m['tensor']}"] = tensor
    return native


def _torchvision_features(state: State) -> State:
    """Torchvision's `features` saved alone."""
    return _torchvision({f"features.{name}": tensor for name, tensor in state.items()})


def _torchvision(state: State) -> State:
    """Torchvision counts layers without stages."""
    layer = re.compile(rf"features\.(\d+)\.conv\.([\d.]+?)\.{_TENSOR}")
    plain = re.compile(rf"features\.(\d+)\.([01])\.{_TENSOR}")
    expanded = {m[1] for key in state if (m := layer.fullmatch(key)) and m[2] == "3"}
    numbers = sorted({int(m[1]) for key in state if (m := layer.fullmatch(key))})
    if numbers and (gaps := set(range(1, numbers[-1])) - set(numbers)):
        raise ArchitectureError(f"the tensors of features.{min(gaps)} are missing")
    places = _torchvision_places(state, numbers, expanded)
    last = max((stage for stage, _ in places.values()), default=0) + 1
    native = {}
    for key, tensor in state.items():
        if m := layer.fullmatch(key):
            stage, index = places[int(m[1])]
            part = _TORCHVISION_PARTS[m[1] in expanded].get(m[2])
            if part:
                native[f"stages.{stage}.{index}.{part}.{m['tensor']}"] = tensor
        elif m := plain.fullmatch(key):
            native[f"stages.{0 if m[1] == '0' else last}.{_PAIR[m[2]]}.{m['tensor']}"] = tensor
    return native


def _torchvision_places(state: State, numbers: list[int], expanded: set[str]) -> dict[int, tuple[int, int]]:
    """(stage, layer) of every block: MobileNetV2's where they fit, or else by the changes of width alone.

    Narrow MobileNetV2s have neighbouring stages of one width.
    """
    changes = {number for number in numbers if _changes_width(state, number, expanded)}
    known = [(stage, index) for stage, depth in enumerate(_MOBILENET_V2_DEPTHS, 1) for index in range(depth)]
    if len(numbers) == len(known):
        places = dict(zip(numbers, known, strict=True))
        if all(places[number][1] == 0 for number in changes):
            return places
    places, stage, index = {}, 0, 0
    for number in numbers:
        stage, index = (stage + 1, 0) if stage == 0 or number in changes else (stage, index + 1)
        places[number] = (stage, index)
    return places


def _changes_width(state: State, number: int, expanded: set[str]) -> bool:
    has_expansion = str(number) in expanded
    first = state.get(f"features.{number}.conv.0.0.weight")
    last = state.get(f"features.{number}.conv.{2 if has_expansion else 1}.weight")
    if first is None or last is None or first.dim() != 4 or last.dim() != 4:
        return False  # Whoever needs these tensors will name them.
    return first.shape[1 if has_expansion else 0] != last.shape[0]


def infer_architecture(state: State) -> MobileArchitecture:
    """The architecture that a native state's shapes show; strides are MobileNetV2's.

    Raises:
        ArchitectureError: where a tensor is missing or the network has another number of stages.
    """
    for name, tensor in state.items():
        if name.endswith("conv.weight") and (tensor.dim() != 4 or tensor.numel() == 0):
            raise ArchitectureError(f"the tensor {name} is {tuple(tensor.shape)}, which no convolution has")
    pattern = re.compile(r"stages\.(\d+)\.(\d+)\.project\.conv\.weight")
    places = sorted((int(m[1]), int(m[2])) for key in state if (m := pattern.fullmatch(key)))
    last = max((number for number, _ in places), default=0)
    if last != len(MOBILENET_V2_STRIDES):
        raise ArchitectureError(
            f"the tensors show {last} stages; strides are only known for {len(MOBILENET_V2_STRIDES)}: "
            "give the architecture, as in seed.architecture"
        )
    try:
        stages = []
        for number, stride in enumerate(MOBILENET_V2_STRIDES, start=1):
            kept = [layer for stage, layer in places if stage == number]
            layers = [_operation(state, number, i) if i in kept else None for i in range(max(kept, default=0) + 1)]
            width = state[f"stages.{number}.0.project.conv.weight"].shape[0]
            stages.append(Stage(width, stride, tuple(layers)))
        stem_width = state["stages.0.conv.weight"].shape[0]
    except KeyError as error:
        raise ArchitectureError(f"the tensor {error} is missing") from error
    head = state.get(f"stages.{last + 1}.conv.weight")
    if head is None:
        return MobileArchitecture(stem_width, tuple(stages))
    return MobileArchitecture(stem_width, tuple(stages), head.shape[0])


def _operation(state: State, stage: int, layer: int) -> Operation:
    name = f"stages.{stage}.{layer}"
    depthwise = state[f"{name}.depthwise.conv.weight"]
    has_expansion = any(key.startswith(f"{name}.expand.") for key in state)
    in_width = state[f"{name}.expand.conv.weight"].shape[1] if has_expansion else depthwise.shape[0]
    return Operation(depthwise.shape[-1], depthwise.shape[0] // in_width)


READERS[MobileArchitecture.kind] = SeedReader(
    dialects=(
        Dialect("this project", lambda key: _OWN.match(key) is not None, _native),
        Dialect("torchvision", lambda key: key.startswith("features."), _torchvision),
        Dialect("torchvision", lambda key: re.match(r"\d+\.conv\.\d", key) is not None, _torchvision_features),
        Dialect("DenseNAS", lambda key: "_depthwise_conv." in key, _densenas),
        Dialect("FNA", lambda key: key.startswith("blocks."), _fna),
    ),
    infer=infer_architecture,
)
PUBLISHED["mobilenet_v2"] = "MobileNet_V2_Weights"
