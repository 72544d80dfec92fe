"""The command that runs a trained network on pictures and videos of one's own.

`python -m fna_lightning.predict --help` says how it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fna_lightning.errors import UserError
from fna_lightning.exit_codes import INTERRUPTED, USER_ERROR
from fna_lightning.runs.command import Command

if TYPE_CHECKING:  # which load torch; --help does without
    from fna_lightning.deployment import Source

EXIT_BROKEN = 1
"""Exit code where pictures were passed over."""

_DESCRIPTION = """\
Runs a trained detector or segmenter on pictures and videos of your own, and writes into a folder what it finds:

    pictures/      each picture, and each video as MP4, with boxes or classes drawn in
    detections.json, predictions.json
                   of a detector: all boxes as a data set in COCO's format, and as COCO's results
    label_ids/, coloured/, segmentations.json
                   of a segmenter: a label file and its colours for every picture, and what the ids mean

Files are called as the pictures are, sub-folders are kept, and no picture of yours is ever written over. A picture
that cannot be read is named and passed over."""
_EPILOG = """\
settings, from {file}:
{settings}

examples:
  {command} checkpoint=outputs/train/<run> images=cells.jpg
  {command} checkpoint=outputs/train/<run> images=cells threshold=0.5 output=found
  {command} checkpoint=outputs/train/<run> 'images=cells/**/*.png' batch_size=8 device=cuda
  {command} checkpoint=outputs/train/<run> images=street.mp4 every=5 limit=100

exit codes:
  0  all pictures were looked at
  1  some were passed over
  2  the command line is wrong, or nothing was found to look at"""
_COMMAND = Command("predict", "checkpoint=<run> images=<file, folder, pattern or video>", _DESCRIPTION, _EPILOG)


@dataclass(frozen=True)
class Outcome:
    """How many pictures and frames were looked at, files passed over, and seconds that took."""

    pictures: int
    broken: int
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict as a command line says.

    Args:
        arguments: The command line without the program; None for this process's own.

    Returns:
        The exit code.
    """
    overrides = _COMMAND.read(arguments)
    console = Console(stderr=True, highlight=False)
    try:
        config = _COMMAND.settings(overrides)
        outcome = run(config, console)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_COMMAND.complaint(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; what was found so far is written", file=sys.stderr)
        return INTERRUPTED
    rate = f", {outcome.pictures / outcome.seconds:.1f} a second" if outcome.pictures else ""
    passed_over = f", {outcome.broken} passed over" if outcome.broken else ""
    print(f"{outcome.pictures} pictures{passed_over}{rate}: {config.output}")
    return EXIT_BROKEN if outcome.broken else 0


def run(config: DictConfig, console: Console) -> Outcome:
    """Look at all pictures and write down what is found, also where it stops halfway.

    Args:
        config: checked settings.
        console: where progress and broken pictures are told of.

    Raises:
        UserError: the network or the pictures are not there, a setting does not fit, or nothing can be written.
    """
    from fna_lightning.deployment import Broken, Record, begin_folder, find_sources, load, predict_files

    folder = Path(config.output)
    places = [config.images] if isinstance(config.images, str) else list(config.images)
    sources = find_sources(places, folder)
    network = load(config.checkpoint, config.device)
    network.checked_threshold(config.threshold)
    begin_folder(network, folder)
    settings = {key: config[key] for key in ("threshold", "batch_size", "every", "limit")}
    record, broken = Record(), 0
    with _progress(console) as progress:
        task = progress.add_task("", total=_total(sources, config.every, config.limit))
        try:
            for each in predict_files(network, sources, folder, **settings):
                if isinstance(each, Broken):
                    broken += 1
                    console.print(f"passed over: {each.what}", markup=False, soft_wrap=True)
                else:
                    record.add(each)
                progress.advance(task)
        finally:
            record.save(network, folder)
        return Outcome(len(record.images), broken, progress.tasks[0].elapsed or 0.0)


class _Rate(ProgressColumn):
    """Pictures a second since the start: what is done comes in batches, which the library's own would go by."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:.1f} pictures/s" if task.completed and task.elapsed else "")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=console)


def _total(sources: Sequence[Source], every: int, limit: int | None) -> int:
    """Pictures and frames that there will be, as far as headers tell."""
    from fna_lightning.deployment import frame_count

    total = sum(frame_count(source.path, every) if source.is_video else 1 for source in sources)
    return total if limit is None else min(total, limit)


if __name__ == "__main__":
    sys.exit(main())
