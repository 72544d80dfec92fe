"""Checkpoints that are whole or not there."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from fna_lightning.checkpoints import read_file
from fna_lightning.files import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target, flushes and renames, so that the previous checkpoint stays until then.

    Lightning's own writes by way of the system's temporary folder, which may be another file system, and leaves
    it to a setting whether objects in a checkpoint are executed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to the local file `path`."""
        del storage_options  # for remote file systems
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the local file `path` as data, whatever `weights_only` is, onto the CPU.

        Raises:
            CheckpointError: where it is missing, broken, or holds anything but plain data.
        """
        del map_location, weights_only
        return read_file(path)
