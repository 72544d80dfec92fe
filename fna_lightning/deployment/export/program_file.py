"""Graphs as `torch.export` writes them, and as torch runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fna_lightning.deployment.export.contents import as_json

METADATA = "metadata.json"
"""Of the extra files in the archive."""


def write(program: ExportedProgram, described: dict[str, Any], path: Path) -> None:
    """Write a trace, with what is said of it as one JSON text."""
    torch.export.save(program, path, extra_files={METADATA: as_json(described)})


def runner(path: Path, inputs: tuple[str, ...]) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """What torch computes of the file, of inputs by their names."""
    module: Callable[..., tuple[Tensor, ...]] = torch.export.load(path).module()

    def run(given: dict[str, Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return list(module(*(given[name] for name in inputs)))

    return run
