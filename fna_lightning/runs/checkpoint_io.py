"""Checkpoints that are whole or not there."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from fna_lightning.files import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target, flushes and renames, so that the previous checkpoint stays until then.

    Lightning's own writes by way of the system's temporary folder, which may be another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to the local file `path`."""
        del storage_options  # for remote file systems
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)
