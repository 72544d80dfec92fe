"""Checkpoints that are whole or not there, and go on as they were written or not at all."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from fna_lightning.checkpoints import read_file, require_finite
from fna_lightning.errors import CheckpointError, UserError, brief
from fna_lightning.files import replacing

_SUMS = "checksums"
# What decides how a run goes on; the rest says what it is of.
_DECISIVE = (
    *("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks"),
    *("iteration", "guard", "epoch", "global_step"),
)
_KINDS: dict[str, type] = {
    **dict.fromkeys(("state_dict", "loops", "guard", "callbacks"), Mapping),
    **dict.fromkeys(("optimizer_states", "lr_schedulers"), Sequence),
    **dict.fromkeys(("iteration", "epoch", "global_step"), int),
    "pytorch-lightning_version": str,
}
_WORDS = {Mapping: "a mapping", Sequence: "a list", int: "a whole number", str: "a text"}
_MEND = "give a run's own checkpoint as it was written"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target, flushes and renames, so that the previous checkpoint stays until then.

    Lightning's own writes by way of the system's temporary folder, which may be another file system, and leaves
    it to a setting whether objects in a checkpoint are executed.

    What decides how a run goes on is written with checksums: a file that somebody has changed since would else
    become another run without a word.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to the local file `path`."""
        del storage_options  # for remote file systems
        sums = {name: _checksum(checkpoint[name]) for name in _DECISIVE if name in checkpoint}
        with replacing(path) as temporary:
            torch.save({**checkpoint, _SUMS: sums}, temporary)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the local file `path` as data, whatever `weights_only` is, onto the CPU.

        Raises:
            CheckpointError: where it is missing, broken, holds anything but plain data, or was changed.
        """
        del map_location, weights_only
        content = read_file(path)
        check_contents(content, path)
        return content


def check_contents(content: Mapping[str, Any], path: Any) -> None:
    """Require that a run can go on from what the checkpoint `path` holds, and as it was written.

    Checkpoints from before there were checksums are held against what can be told without.

    Raises:
        CheckpointError: naming what is missing, of another kind, not finite or changed.
    """
    for name, kind in _KINDS.items():
        if fault := _fault(content, name, kind):
            raise CheckpointError(f"{path}: {fault}; {_MEND}")
    sums = content.get(_SUMS)
    for name, wanted in sums.items() if isinstance(sums, Mapping) else ():
        if name not in content or _checksum(content[name]) != wanted:
            raise CheckpointError(f"{path}: {name} was changed since it was written; {_MEND}")
    for name in ("state_dict", "optimizer_states"):
        require_finite(dict(_tensors(content[name], name)), path)


def _fault(content: Mapping[str, Any], name: str, kind: type) -> str | None:
    """What is the matter with a part, which must be of a kind and not empty, and no negative number."""
    if name not in content:
        return f"lacks {name}"
    value = content[name]
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is Sequence and isinstance(value, str)):
        return f"{name} is a {type(value).__name__}, not {_WORDS[kind]}"
    if isinstance(value, int):
        return f"{name} is {value}" if value < 0 else None
    return None if value else f"{name} is empty"


@contextlib.contextmanager
def restoring(trainer: L.Trainer, path: str | None) -> Iterator[None]:
    """Make one line of whatever goes wrong while `trainer` puts a checkpoint in place.

    Args:
        trainer: which is used inside.
        path: the checkpoint's; None where there is none.

    Raises:
        CheckpointError: where it does not fit what it is restored into.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Lightning's own mark: the content is let go when all of it is in place.
        if path is None or not trainer._checkpoint_connector._loaded_checkpoint:
            raise
        reason = brief(f"{type(error).__name__}: {error}", 200)
        raise CheckpointError(f"{path}: cannot be restored ({reason}); {_MEND}") from error


def _tensors(value: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    """All tensors in mappings and lists, by their place."""
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _tensors(item, f"{place}.{key}")


def _checksum(value: Any, start: int = 0) -> int:
    """Of plain data with tensors in it: of their kinds, shapes and numbers, to the bit."""
    if isinstance(value, Tensor):
        start = zlib.crc32(f"{value.dtype}{tuple(value.shape)}{value.layout}".encode(), start)
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            return start
        numbers = value.detach().cpu().contiguous().reshape(-1)
        return zlib.crc32(numbers.view(torch.uint8).numpy().data, start)
    if isinstance(value, (Mapping, list, tuple)):
        start = zlib.crc32(f"{len(value)}".encode(), start)
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            start = _checksum(item, zlib.crc32(repr(key).encode(), start))
        return start
    return zlib.crc32(f"{type(value).__name__}{value!r}".encode(errors="surrogatepass"), start)
