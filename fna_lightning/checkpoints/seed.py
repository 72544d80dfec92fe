"""Seeds: a trained network's architecture and backbone parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fna_lightning.architectures import (
    MobileArchitecture,
    Operation,
    Stage,
    load_architecture,
    parse_architecture,
)
from fna_lightning.checkpoints.dialects import to_native
from fna_lightning.checkpoints.reading import read_file, tensors_of
from fna_lightning.errors import ArchitectureError, CheckpointError

MOBILENET_V2_STRIDES = (1, 2, 2, 2, 1, 2, 1)
PUBLISHED = {"mobilenet_v2": "MobileNet_V2_Weights"}
"""Seeds whose ImageNet weights torchvision publishes, and the name of its list."""


@dataclass(frozen=True)
class Seed:
    """A trained network: its architecture and the tensors of its backbone under the project's names."""

    architecture: MobileArchitecture
    state: dict[str, Tensor]
    source: str = ""
    """Where it came from, for reports."""


def load_seed(source: str | Path, architecture: MobileArchitecture | None = None) -> Seed:
    """Read a seed.

    Args:
        source: a weight file under torchvision's, FNA's, DenseNAS's or the project's key names; a run
            directory of `train.py`; or a name of `PUBLISHED`, whose ImageNet weights torchvision then
            takes from its cache or downloads.
        architecture: what the file holds. By default the architecture saved with the weights, or else
            the one that the tensors' shapes show, with MobileNetV2's strides, which no weight tells.

    Raises:
        CheckpointError: where the file cannot be read as data, or its tensors do not fit.
    """
    if str(source) in PUBLISHED and not Path(source).exists():
        state, named = _published(str(source)), None
    else:
        path = checkpoint_of(source)
        content = read_file(path)
        state, named = tensors_of(content, path), content.get("architecture")
        named = named if isinstance(named, str) else None
        beside = path.parent.parent / "architecture.yaml"
        if named is None and Path(source).is_dir() and beside.is_file():
            architecture = architecture or load_architecture(beside)
    native = to_native(state)
    if not native:
        found = ", ".join(list(state)[:3])
        raise CheckpointError(
            f"{source}: its names ({found}, ...) are neither torchvision's, FNA's, DenseNAS's nor this project's"
        )
    try:
        if architecture is None:
            architecture = parse_architecture(named) if named else infer_architecture(native)
    except ArchitectureError as error:
        raise CheckpointError(f"{source}: {error}") from error
    return Seed(architecture, native, str(source))


def checkpoint_of(source: str | Path) -> Path:
    """The weight file that `source` names: itself, or the last checkpoint of a run directory.

    Raises:
        CheckpointError: where a directory has none.
    """
    path = Path(source)
    if not path.is_dir():
        return path
    last = path / "checkpoints" / "last.ckpt"
    if not last.is_file():
        raise CheckpointError(f"{path}: holds no checkpoints/last.ckpt; give a run directory or a file")
    return last


def infer_architecture(state: dict[str, Tensor]) -> MobileArchitecture:
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


def _operation(state: dict[str, Tensor], stage: int, layer: int) -> Operation:
    name = f"stages.{stage}.{layer}"
    depthwise = state[f"{name}.depthwise.conv.weight"]
    has_expansion = any(key.startswith(f"{name}.expand.") for key in state)
    in_width = state[f"{name}.expand.conv.weight"].shape[1] if has_expansion else depthwise.shape[0]
    return Operation(depthwise.shape[-1], depthwise.shape[0] // in_width)


def _published(name: str) -> dict[str, Tensor]:
    """Torchvision's ImageNet weights, from its cache or by download."""
    from torchvision import models

    weights = getattr(models, PUBLISHED[name]).DEFAULT
    try:
        return dict(weights.get_state_dict(progress=True, check_hash=True))
    except Exception as error:
        raise CheckpointError(
            f"torchvision's weights for {name} could not be downloaded ({type(error).__name__}); "
            "give a file instead, as in seed.weights=mobilenet_v2.pth"
        ) from error
