"""Seeds: a trained network's architecture and backbone parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from fna_lightning.architectures import Architecture, load_architecture, parse_architecture
from fna_lightning.checkpoints.dialects import PUBLISHED, READERS, SeedReader, find_inner, find_reader
from fna_lightning.checkpoints.reading import State, Weights, read_file, require_finite, weights_of
from fna_lightning.errors import ArchitectureError, CheckpointError


@dataclass(frozen=True)
class Moments:
    """Of the C channels that a convolution reads, over pictures and positions.

    Attributes:
        mean: (C,) float64.
        covariance: (C, C) float64.
    """

    mean: Tensor
    covariance: Tensor


@dataclass(frozen=True)
class Seed:
    """A trained network: its architecture and the tensors of its backbone under the project's names."""

    architecture: Architecture
    state: dict[str, Tensor]
    source: str = ""
    """Where it came from, for reports."""
    notice: str = ""
    """What was chosen in reading it, in a line, if anything was."""
    moments: Mapping[str, Moments] = field(default_factory=dict)
    """Of what its convolutions read on the pictures that it is adapted to, by the convolution's name; none where
    they are not known."""

    def tensor(self, name: str) -> Tensor:
        """One tensor.

        Raises:
            CheckpointError: where it is missing.
        """
        if name not in self.state:
            raise CheckpointError(f"{self.source or 'the seed'}: lacks the tensor {name}")
        return self.state[name]


def load_seed(source: str | Path, architecture: Architecture | None = None, *, ema: bool = False) -> Seed:
    """Read a seed; its numbers are of 32 bits, whatever they were saved in.

    Args:
        source: a weight file under torchvision's, FNA's, DenseNAS's or the project's key names, whatever wrapped
            the network; a run directory of `train.py`; or a name of `PUBLISHED`, whose ImageNet weights
            torchvision then takes from its cache or downloads.
        architecture: what the file holds. By default the architecture saved with the weights, or else
            the one that the tensors' shapes show, with MobileNetV2's strides, which no weight tells.
        ema: whether to take the average of the weights over training, which some files hold beside them.

    Raises:
        CheckpointError: where the file cannot be read as data, its tensors do not fit or hold numbers that are
            none, or it has no average.
    """
    named = None
    if str(source) in PUBLISHED and not Path(source).exists():
        weights = Weights(_published(str(source)), {})
    else:
        path = checkpoint_of(source)
        content = read_file(path)
        weights, named = weights_of(content), content.get("architecture")
        named = named if isinstance(named, str) else None
        beside = path.parent.parent / "architecture.yaml"
        if named is None and Path(source).is_dir() and beside.is_file():
            architecture = architecture or load_architecture(beside)
    try:
        if architecture is None and named:
            architecture = parse_architecture(named)
        chosen = _choose(str(source), weights, architecture.kind if architecture else None, ema=ema)
        _require_weights(str(source), chosen)
        native = {name: t.float() if t.is_floating_point() else t for name, t in chosen.native.items()}
        return Seed(architecture or chosen.reader.infer(native), native, str(source), chosen.notice)
    except ArchitectureError as error:
        raise CheckpointError(f"{source}: {error}") from error


class _Choice(NamedTuple):
    """Which weights of a file are read."""

    reader: SeedReader
    native: State
    """Under own names."""
    state: State
    """Under those of the file."""
    notice: str = ""


def _choose(source: str, weights: Weights, kind: str | None, *, ema: bool) -> _Choice:
    nameless = f"averaged weights (EMA) as a list, {weights.unnamed}, which does not say which tensor is which"
    if not (weights.plain or weights.averaged):
        if weights.unnamed:
            raise CheckpointError(f"{source}: holds {nameless}; save them by name, as a state_dict")
        raise CheckpointError(f"{source}: holds no tensors by name")
    averaged = _find(source, weights.averaged, kind)
    if ema and averaged is None:
        if weights.unnamed:
            raise CheckpointError(f"{source}: holds {nameless}; save them by name, or give seed.ema=false")
        raise CheckpointError(f"{source}: holds no averaged weights (EMA); give seed.ema=false")
    plain = None if ema else _find(source, weights.plain, kind)
    if averaged is not None and plain is None:
        notice = "" if ema else f"{source}: holds averaged weights (EMA) alone, which are taken"
        return _Choice(*averaged, weights.averaged, notice)
    if plain is None:
        raise CheckpointError(_strange_names(source, weights.plain or weights.averaged))
    both = f"{source}: holds weights, which are taken, and their average (EMA), which seed.ema=true takes"
    if averaged is None:
        passed_over = f"{source}: holds weights, which are taken, and {nameless}: that is passed over"
        return _Choice(*plain, weights.plain, passed_over if weights.unnamed else "")
    return _Choice(*plain, weights.plain, both)


def _find(source: str, state: State, kind: str | None) -> tuple[SeedReader, State] | None:
    found = find_reader(state, kind)
    if found is not None:
        return found
    inner = find_inner(state, kind)
    if len(inner) > 1:
        raise CheckpointError(f"{source}: holds several networks ({', '.join(inner)}); save the one that is meant")
    return next(iter(inner.values()), None)


def _require_weights(source: str, chosen: _Choice) -> None:
    """Require that tensors are numbers, and weights floating-point ones; they are named as in the file."""
    names = {id(tensor): name for name, tensor in chosen.state.items()}
    used = {names.get(id(tensor), name): tensor for name, tensor in chosen.native.items()}
    require_finite(used, source)
    if not any(bool(tensor.any()) for tensor in chosen.native.values() if tensor.ndim > 1):
        raise CheckpointError(f"{source}: all of its weights are zero; give those of a trained network")
    for name, tensor in used.items():
        if not tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"{source}: the tensor {name} is of {kind}; save the weights as floating-point")


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
