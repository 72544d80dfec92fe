"""The command that reads a whole data set and lists everything that is wrong with it.

`python -m fna_lightning.data.check --help` says how it is used.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fna_lightning.complaints import HELP_SHOWS, Parser, one_line
from fna_lightning.data.base import DataModule
from fna_lightning.data.checking.leaks import note_copies, same_contents
from fna_lightning.data.checking.problems import Kind, Problem, Problems, SetError, printable
from fna_lightning.data.datasets import EpochDataset
from fna_lightning.errors import UserError
from fna_lightning.exit_codes import INTERRUPTED, USER_ERROR
from fna_lightning.files import CONF_DIR
from fna_lightning.overrides import readable
from fna_lightning.targets import check_targets

EXIT_BROKEN = 1
"""Exit code of a set with errors."""

_STYLES = {"error": "bold red", "notice": "yellow"}
_COMMAND = "python -m fna_lightning.data.check"
_DESCRIPTION = """\
Reads a whole data set, training and validation, as training would, decodes every picture and lists everything
that is wrong, a line each:

    path[:line[:column]]: severity: what it is; how to mend it

An error is refused in training, or left out with data.on_error=skip. A notice is read, but perhaps not as you
expect. Nothing is written."""
_EPILOG = """\
examples:
  {command} data=coco data.root=/data/coco
  {command} data=imagenet data.root=/data/imagenet
  {command} data=coco data.root=/data/mine data.train_annotations=train.json \\
      data.val_annotations=val.json data.train_images=images data.val_images=images

errors:
{errors}

notices:
{notices}

exit codes:
  0  nothing is broken
  1  there are errors
  2  the command line is wrong, or nothing was found to read"""


@dataclass(frozen=True)
class Examination:
    """What was found in a data set."""

    problems: dict[str, list[Problem]]
    """Split -> everything that is wrong."""
    totals: dict[str, dict[str, int]]
    """Split -> what is usable in it, counted; nothing for a split that could not be read."""
    seconds: float
    """How long it took."""

    def count(self, severity: str) -> int:
        """How many problems of one severity there are."""
        return sum(problem.kind.severity == severity for found in self.problems.values() for problem in found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the set that a command line names, and say what was found.

    Args:
        arguments: The command line without the program; None for this process's own.

    Returns:
        The exit code.
    """
    overrides = _parser().parse_args(arguments).override
    found = logging.StreamHandler()  # to standard error, as the streams are now
    log = logging.getLogger(Problems.__module__)
    log.addHandler(found)
    log.setLevel(logging.INFO)
    try:
        examination = examine(_data_module(overrides))
        show(examination, Console(highlight=False))
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {one_line(error, HELP_SHOWS, _hint, _otherwise)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; what was found so far is not listed", file=sys.stderr)
        return INTERRUPTED
    finally:
        log.removeHandler(found)
        log.setLevel(logging.NOTSET)
    return EXIT_BROKEN if examination.count("error") else 0


def examine(data: DataModule[Any]) -> Examination:
    """Read both splits of `data` with its own checks, and compare them with each other.

    Of a set without a validation part, everything that is wrong is in the split `whole`.

    Raises:
        DataError: Neither can be read, for one and the same reason.
    """
    start = time.perf_counter()
    found, totals = (_splits if data.has_validation() else _whole)(data)
    lists = {split: list(problems) for split, problems in found.items()}
    return Examination(lists, totals, time.perf_counter() - start)


def _whole(data: DataModule[Any]) -> tuple[dict[str, Problems], dict[str, dict[str, int]]]:
    """What is wrong with a set of which a share is set aside, and its totals."""
    problems = Problems("list")
    whole = data.build_train(problems)
    train, val = data.set_aside(whole)
    _compare(data, train, val, problems)
    data.note_unused(train, val, problems, problems)
    note_copies(whole, problems)
    parts = {"whole": whole, "training": train, "validation": val}
    return {"whole": problems}, {split: part.totals() for split, part in parts.items()}


def _splits(data: DataModule[Any]) -> tuple[dict[str, Problems], dict[str, dict[str, int]]]:
    """What is wrong with each split of a set that has two, and the totals of both."""
    found = {"training": Problems("list"), "validation": Problems("list")}
    train = _read(data.build_train, found["training"])
    val = _read(data.build_val, found["validation"])
    if isinstance(train, SetError) and isinstance(val, SetError):
        if train.problem == val.problem:
            raise train
    elif not isinstance(train, SetError) and not isinstance(val, SetError):
        _compare(data, train, val, found["validation"])
        data.note_unused(train, val, [*found["training"], *found["validation"]], found["training"])
    for split, dataset in zip(found, (train, val), strict=True):
        if not isinstance(dataset, SetError):
            note_copies(dataset, found[split])
    totals = {
        split: {} if isinstance(dataset, SetError) else dataset.totals()
        for split, dataset in zip(found, (train, val), strict=True)
    }
    return found, totals


def show(examination: Examination, console: Console) -> None:
    """Print a line for every problem, sorted by place, then one table of how many there are."""
    problems = [problem for found in examination.problems.values() for problem in found]
    for problem in sorted(problems, key=_place):
        severity = problem.kind.severity
        line = Text.assemble(
            f"{printable(problem.where())}: ",
            (severity, _STYLES[severity]),
            printable(f": {problem.what}; {problem.advice}"),
        )
        console.print(line, soft_wrap=True)
    console.print(_summary(examination))
    errors, notices = examination.count("error"), examination.count("notice")
    verdict = f"{errors} error(s)" if errors else "nothing is broken"
    console.print(f"{verdict}, {notices} notice(s), {examination.seconds:.1f} s")
    if errors:
        console.print("Mend what is listed, or train without broken items by data.on_error=skip.")


def _read(
    build: Callable[[Problems], EpochDataset[Any, Any]], problems: Problems
) -> EpochDataset[Any, Any] | SetError:
    """A split, or why there is none, which is noted."""
    try:
        return build(problems)
    except SetError as error:
        problems.append(error.problem)
        return error


def _compare(
    data: DataModule[Any], train: EpochDataset[Any, Any], val: EpochDataset[Any, Any], problems: Problems
) -> None:
    """Note what is wrong with two sets beside each other, each good by itself."""
    try:
        data.check_same_classes(train, val)
    except SetError as error:
        problems.append(error.problem)
    for twin, path in same_contents(train, val):
        same = "is in the training set too" if twin.samefile(path) else "is a copy of a training picture"
        problems.append(Problem(Kind.LEAK, path, f"{same}: {twin}"))


def _place(problem: Problem) -> tuple[str, int, int, str]:
    line, column = problem.place() or (0, 0)
    return str(problem.path), line, column or 0, problem.what


def _summary(examination: Examination) -> Table:
    splits = list(examination.totals)
    table = Table("", "", *splits, box=box.SIMPLE)
    for column in table.columns[2:]:
        column.justify = "right"
    titles = dict.fromkeys(title for totals in examination.totals.values() for title in totals)
    for title in titles:
        table.add_row("usable", title, *_counts(examination.totals[split].get(title, 0) for split in splits))
    table.add_section()
    kinds = {split: Counter(problem.kind for problem in own) for split, own in examination.problems.items()}
    for kind in Kind:
        if any(own[kind] for own in kinds.values()):
            severity = Text(kind.severity, _STYLES[kind.severity])
            numbers = (kinds[split][kind] if split in kinds else None for split in splits)
            table.add_row(severity, kind.title, *_counts(numbers))
    return table


def _counts(numbers: Iterable[int | None]) -> list[str]:
    return ["" if number is None else f"{number:,}" for number in numbers]


def _data_module(overrides: list[str]) -> DataModule[Any]:
    """The data module that some overrides describe, set to read everything."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        settings = compose("check", readable(overrides)).data
    check_targets(OmegaConf.to_container(settings, resolve=True), "data")
    return instantiate(settings, on_error="skip", check_images="all")


def _hint(*_: Any) -> str:
    return f"; the files in {CONF_DIR / 'data'} list all keys"


def _otherwise(chain: list[BaseException]) -> str:
    error, cause = chain[0], chain[0].__cause__ or chain[0]
    if isinstance(cause, (TypeError, ValueError)):
        return f"a setting of data is of the wrong type ({cause}); the files in {CONF_DIR / 'data'} have examples"
    text = " ".join((str(error) if cause is error else f"{error} {cause}").split())
    return text.split(" Config search path")[0]


def _parser() -> argparse.ArgumentParser:
    lists = {severity: [kind.title for kind in Kind if kind.severity == severity] for severity in _STYLES}
    words = {f"{severity}s": "\n".join(f"  {title}" for title in titles) for severity, titles in lists.items()}
    parser = Parser(
        prog=_COMMAND,
        usage=f"{_COMMAND} data=<name> [data.<key>=<value> ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG.format(command=_COMMAND, **words),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(sorted(path.stem for path in (CONF_DIR / "data").glob("*.yaml")))
    parser.add_argument(
        "override", nargs="*", help=f"settings of the set, as in training; data= is one of {names}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
