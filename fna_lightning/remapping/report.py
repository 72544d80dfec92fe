"""What went where in a remapping."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from fna_lightning.files import write_text

OWN = "own initialisation"
TAKEN = "copied"
ZERO = "zero"
MAPS = "maps.csv"


@dataclass(frozen=True)
class Entry:
    """One tensor of the target.

    Attributes:
        target: its name and shape.
        source: the tensor it came from and its shape; empty for its own initialisation.
        how: `copied`, `resized`, `refitted`, `zero` or `own initialisation`.
        dead: of a convolution's weight, the channels that it writes and that never learn, see `Move`.
    """

    target: str
    target_shape: tuple[int, ...]
    source: str
    source_shape: tuple[int, ...]
    how: str
    dead: int = 0


@dataclass(frozen=True)
class RemapReport:
    """For every tensor of a target, where it came from.

    Attributes:
        origin: the seed's file or name.
        strategy: the rule's name.
        entries: one per parameter and buffer, in the target's order.
        differences: of the maps from the seed's before training, by name, where they were compared: root mean
            square over that of the seed's.
    """

    origin: str
    strategy: str
    entries: tuple[Entry, ...]
    differences: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = Counter(entry.how for entry in self.entries)
        parts = ", ".join(f"{number} {how}" for how, number in sorted(counts.items()))
        text = f"remapped {self.origin or 'seed'} by {self.strategy!r}: {len(self.entries)} tensors, {parts}"
        if dead := [entry for entry in self.entries if entry.dead]:
            number = sum(entry.dead for entry in dead)
            text += f"; {number} new channels of {len(dead)} layers are zero and never learn: remap.grow=duplicate"
        off = ", ".join(f"{name} {value:.2f}" for name, value in self.differences.items())
        return f"{text}; maps differ from the seed's by {off}" if off else text

    def __add__(self, other: RemapReport) -> RemapReport:
        """Both, one after the other."""
        return replace(self, entries=self.entries + other.entries)

    def under(self, part: str) -> RemapReport:
        """The same with the name of the network's part before every tensor's."""
        entries = (
            replace(entry, target=f"{part}.{entry.target}", source=entry.source and f"{part}.{entry.source}")
            for entry in self.entries
        )
        return replace(self, entries=tuple(entries))

    def save(self, path: str | Path) -> None:
        """Write the entries as CSV, and what maps differ by into `maps.csv` beside it."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["target", "target_shape", "source", "source_shape", "how", "dead"])
        for entry in self.entries:
            shapes = ["x".join(map(str, shape)) for shape in (entry.target_shape, entry.source_shape)]
            writer.writerow([entry.target, shapes[0], entry.source, shapes[1], entry.how, entry.dead or ""])
        write_text(path, buffer.getvalue())
        if self.differences:
            rows = [f"{name},{value:.6f}\n" for name, value in self.differences.items()]
            write_text(Path(path).parent / MAPS, "".join(["map,difference\n", *rows]))


def report_of_supernet(network: nn.Module, origin: str, prefix: str) -> RemapReport:
    """Of a network whose tensors that begin with `prefix` are those of another run's supernet."""
    entries = []
    for name, tensor in network.state_dict().items():
        taken = name.startswith(prefix)
        shape = tuple(tensor.shape)
        entries.append(Entry(name, shape, name if taken else "", shape if taken else (), TAKEN if taken else OWN))
    return RemapReport(origin, "supernet", tuple(entries))
