"""Seeds: a trained network's architecture and backbone parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fna_lightning.architectures import Architecture, load_architecture, parse_architecture
from fna_lightning.checkpoints.dialects import PUBLISHED, READERS, find_reader
from fna_lightning.checkpoints.reading import read_file, tensors_of
from fna_lightning.errors import ArchitectureError, CheckpointError


@dataclass(frozen=True)
class Seed:
    """A trained network: its architecture and the tensors of its backbone under the project's names."""

    architecture: Architecture
    state: dict[str, Tensor]
    source: str = ""
    """Where it came from, for reports."""

    def tensor(self, name: str) -> Tensor:
        """One tensor.

        Raises:
            CheckpointError: where it is missing.
        """
        if name not in self.state:
            raise CheckpointError(f"{self.source or 'the seed'}: lacks the tensor {name}")
        return self.state[name]


def load_seed(source: str | Path, architecture: Architecture | None = None) -> Seed:
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
    try:
        if architecture is None and named:
            architecture = parse_architecture(named)
        found = find_reader(state, architecture.kind if architecture else None)
        if found is None:
            raise CheckpointError(_strange_names(str(source), state))
        reader, native = found
        return Seed(architecture or reader.infer(native), native, str(source))
    except ArchitectureError as error:
        raise CheckpointError(f"{source}: {error}") from error


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


def _strange_names(source: str, state: dict[str, Tensor]) -> str:
    """What to say of tensors whose names no kind of network knows."""
    dialects = dict.fromkeys(dialect.name for reader in READERS.values() for dialect in reader.dialects)
    *others, last = (f"{name}'s" for name in dialects)
    return f"{source}: its names ({', '.join(list(state)[:3])}, ...) are neither {', '.join(others)} nor {last}"


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
