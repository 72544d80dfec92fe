"""Weight files of ShuffleNetV2's family: key names of published ones -> the project's own, and what shapes show.

Own names: `stages.0.{conv,norm}` is the stem, `stages.<number>.<layer>.{side,main}.<index>.{conv,norm}` a
convolution of a block's branch in order, and `stages.<last>.{conv,norm}` the tail.

The authors trained on BGR pixels from 0 to 255 (spec DetNAS 2.1). Their stems are turned to RGB as they are read;
a network that takes one over as it is wants mean 0 and deviation 1 besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from fna_lightning.architectures import ShuffleArchitecture, ShuffleStage
from fna_lightning.architectures.shuffle_encodings import SETTINGS, XCEPTION, parse_candidate
from fna_lightning.checkpoints.dialects import READERS, Dialect, SeedReader, State
from fna_lightning.errors import ArchitectureError

_TENSOR = r"(?P<tensor>weight|bias|running_mean|running_var|num_batches_tracked)"
_PLAIN = {"conv": "conv", "bn": "norm"}

_OWN = re.compile(r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.(candidates\.(?P<candidate>\w+)\.)?(side|main)\.")
_TORCHVISION = re.compile(r"stage[234]\.\d+\.branch[12]\.")

# The authors name layers by stage and block, `1a` being the first: `interstellar1a_shufflenet_3x3_branch2b_s` is
# the depthwise convolution of its second pair, with `_bn` behind that its norm; without `_s` the 1x1 one, whose
# norm begins with `bn` instead. In a supernet the candidate's number follows the block's.
_AUTHORS_PLAIN = re.compile(rf"(?P<end>first|last)_conv\.(?P<part>conv|bn)\.{_TENSOR}")
_AUTHORS_BLOCK = re.compile(
    rf"features\.\d+\.(?P<candidate>\d+\.)?(?:proj_conv|conv\.\d)\."
    rf"(?:interstellar|(?P<norm>bn))(?P<stage>\d)(?P<block>[a-z])_"
    rf"(?:proj|(?P<operation>\w+?)_branch2(?P<pair>[abc]))(?P<depthwise>_s)?(?P<its_norm>_bn)?\.{_TENSOR}"
)

# mmrazor counts stages and blocks from 0; a searched block's layers lie under its operation's name.
_MMRAZOR_PLAIN = re.compile(rf"(?:conv1|layers\.(?P<tail>\d{{1,3}}))\.(?P<part>conv|bn)\.{_TENSOR}")
_MMRAZOR_BLOCK = re.compile(
    r"layers\.(?P<stage>\d{1,3})\.(?P<block>\d{1,3})\.(?:_candidates\.(?P<operation>\w+)\.)?"
    r"branch(?P<branch>[12])\.(?P<index>\d)\.(?:(?P<pair>depthwise|pointwise)_conv\.)?"
    rf"(?P<part>conv|bn)\.{_TENSOR}"
)


def _native(state: State) -> State:
    blocks = [m for key in state if (m := _OWN.match(key))]
    _refuse_supernets((m["stage"], m["block"], m["candidate"]) for m in blocks)
    return {key: tensor for key, tensor in state.items() if key.startswith("stages.")}


def _authors(state: State) -> State:
    plain = {key: m for key in state if (m := _AUTHORS_PLAIN.fullmatch(key))}
    blocks = {key: m for key in state if (m := _AUTHORS_BLOCK.fullmatch(key))}
    _refuse_supernets((m["stage"], m["block"], m["candidate"]) for m in blocks.values())
    last = max((int(m["stage"]) for m in blocks.values()), default=0) + 1
    native = {}
    for key, m in plain.items():
        number, tensor = 0 if m["end"] == "first" else last, state[key]
        is_stem = number == 0 and tensor.dim() == 4
        native[f"stages.{number}.{_PLAIN[m['part']]}.{m['tensor']}"] = tensor.flip(1) if is_stem else tensor
    for key, m in blocks.items():
        if m["pair"] is None:
            branch, index = "side", 0 if m["depthwise"] else 1
        else:
            # Pairs of a depthwise and a 1x1 convolution; the first of a shuffle block has the latter alone.
            lacking = 0 if m["operation"].startswith("xception") else 1
            branch, index = "main", 2 * "abc".index(m["pair"]) + (0 if m["depthwise"] else 1) - lacking
        part = "norm" if m["norm"] or m["its_norm"] else "conv"
        place = f"stages.{m['stage']}.{ord(m['block']) - ord('a')}.{branch}.{index}"
        native[f"{place}.{part}.{m['tensor']}"] = state[key]
    return native


def _mmrazor(state: State) -> State:
    plain = {key: m for key in state if (m := _MMRAZOR_PLAIN.fullmatch(key))}
    blocks = {key: m for key in state if (m := _MMRAZOR_BLOCK.fullmatch(key))}
    _refuse_supernets((m["stage"], m["block"], m["operation"]) for m in blocks.values())
    native = {}
    for key, m in plain.items():
        number = 0 if m["tail"] is None else int(m["tail"]) + 1
        native[f"stages.{number}.{_PLAIN[m['part']]}.{m['tensor']}"] = state[key]
    for key, m in blocks.items():
        branch, index = ("side", "main")[int(m["branch"]) - 1], int(m["index"])
        if m["pair"] is not None:
            index = 2 * index + ("depthwise", "pointwise").index(m["pair"])
        place = f"stages.{int(m['stage']) + 1}.{m['block']}.{branch}.{index}"
        native[f"{place}.{_PLAIN[m['part']]}.{m['tensor']}"] = state[key]
    return native


def _refuse_supernets(blocks: Iterable[tuple[str, str, str | None]]) -> None:
    """Complain where a (stage, block) comes with several candidates."""
    found: dict[tuple[str, str], str | None] = {}
    for stage, block, candidate in blocks:
        if found.setdefault((stage, block), candidate) != candidate:
            raise ArchitectureError(
                f"holds several candidates of block {block} of stage {stage}, as a supernet does; "
                "give the weights of one network"
            )


def _torchvision(_: State) -> NoReturn:
    raise ArchitectureError(
        "is torchvision's ShuffleNetV2, whose stem ends with a pooling and has no stage at stride 4 behind it, "
        "where networks of kind shuffle have one; train a seed instead, or take mobilenet_v2"
    )


def infer_shuffle(state: State) -> ShuffleArchitecture:
    """The architecture that a native state's shapes show.

    They do not show how channels are shuffled. A stem with a bias means the authors' retrained networks, which are
    all that these publish besides supernets; one without means mmrazor's. A tail that is missing counts as 1024.

    Raises:
        ArchitectureError: where a tensor is missing, or blocks are of no known operation.
    """
    stages: list[ShuffleStage] = []
    while layers := _layers(state, len(stages) + 1):
        first = f"stages.{len(stages) + 1}.0"
        last = 5 if layers[0] == XCEPTION else 2
        width = sum(_rows(state, f"{first}.{branch}.conv.weight") for branch in ("side.1", f"main.{last}"))
        stages.append(ShuffleStage(width, layers))
    tail = f"stages.{len(stages) + 1}.conv.weight"
    return ShuffleArchitecture(
        "detnas" if "stages.0.conv.bias" in state else "mmrazor",
        _rows(state, "stages.0.conv.weight"),
        tuple(stages),
        _rows(state, tail) if tail in state else SETTINGS[0].tail_width,
    )


def _layers(state: State, stage: int) -> tuple[str, ...]:
    """The operations of a stage's blocks; none where there is no such stage."""
    layers = []
    while any(key.startswith(f"stages.{stage}.{len(layers)}.") for key in state):
        block = f"stages.{stage}.{len(layers)}"
        if f"{block}.main.5.conv.weight" in state:
            layers.append(XCEPTION)
            continue
        depthwise = state.get(f"{block}.main.1.conv.weight")
        kernel = "nothing" if depthwise is None else f"shuffle_{'x'.join(map(str, depthwise.shape[2:]))}"
        layers.append(parse_candidate(kernel, f"the operation that the tensors of {block} show"))
    return tuple(layers)


def _rows(state: State, name: str) -> int:
    if name not in state or state[name].dim() != 4:
        raise ArchitectureError(f"the tensor {name} is missing, or of no convolution")
    return state[name].shape[0]


READERS[ShuffleArchitecture.kind] = SeedReader(
    dialects=(
        Dialect("this project", lambda key: _OWN.match(key) is not None, _native),
        Dialect("DetNAS", lambda key: _AUTHORS_BLOCK.fullmatch(key) is not None, _authors),
        Dialect("mmrazor", lambda key: _MMRAZOR_BLOCK.fullmatch(key) is not None, _mmrazor),
        Dialect("torchvision", lambda key: _TORCHVISION.match(key) is not None, _torchvision),
    ),
    infer=infer_shuffle,
)
