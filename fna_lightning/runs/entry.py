"""How an entry point starts and how it fails: one line for what a user can mend, a traceback for the rest."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fna_lightning import complaints
from fna_lightning.complaints import causes
from fna_lightning.errors import ConfigError, UserError
from fna_lightning.exit_codes import INTERRUPTED, USER_ERROR
from fna_lightning.files import CONF_DIR
from fna_lightning.overrides import quoted, readable
from fna_lightning.runs.composition import checked
from fna_lightning.runs.hints import did_you_mean
from fna_lightning.runs.ranks import is_first_to_say, rank
from fna_lightning.targets import import_allowed

_show_traceback = False
_FULL_ERROR, _ASKED = "HYDRA_FULL_ERROR", "FNA_LIGHTNING_FULL_ERROR"
_OF_TRAINING = re.compile(r"(data|task)\.[\w.]+=")
_THERE_ALREADY = re.compile(r"An item is already at '([^']+)'")
_NO_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")


def launch(main: Callable[[], Any], script: str) -> None:
    """Run a Hydra main function on checked settings.

    What a user can mend is printed as one line, and the exit code is 2; `HYDRA_FULL_ERROR=1` shows the traceback
    instead. Settings are checked before Hydra builds anything of them or makes the run directory.

    Args:
        main: what Hydra made of the entry point's function.
        script: the entry point's file, whose name says which settings are its own, wherever they come from.
    """
    # Read when torch is loaded, which is later. Idle threads that spin for long take the cores from loader
    # processes and neighbours, which on a busy machine makes a step ten times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.argv[1:] = _readable(short_architecture(sys.argv[1:]))
    if entry_name(script) == "evaluate":
        sys.argv[1:] = of_training(sys.argv[1:])
    global _show_traceback
    # Processes that this one starts inherit its environment, in which the last line asks Hydra for tracebacks.
    os.environ.setdefault(_ASKED, os.environ.get(_FULL_ERROR, "0"))
    _show_traceback = os.environ[_ASKED] == "1"
    # Makes Hydra raise errors to us, instead of printing its own page and leaving with 1.
    os.environ[_FULL_ERROR] = "1"
    with friendly():
        import_allowed()
    with friendly(), checked(entry_name(script) if _single_run(sys.argv[1:]) else None):
        main()


def entry_name(script: str) -> str:
    """`train`, `search` or `evaluate`, from the entry point's file."""
    return Path(script).stem


@contextlib.contextmanager
def friendly() -> Iterator[None]:
    """Print a user's error as one line and exit with 2.

    Inside a job it comes before Hydra, which would announce the error on a line of its own.
    """
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if _show_traceback or not _is_users(error):
            raise
        line = one_line(error)
        if is_first_to_say(line):
            print(f"error: {line}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        if rank() == 0:
            print("interrupted; continue with resume=<this run's directory>", file=sys.stderr)
        sys.exit(INTERRUPTED)


def short_architecture(arguments: list[str]) -> list[str]:
    """Let `architecture=` take files and run directories besides the names in `conf/architecture/`."""
    names = {path.stem for path in (CONF_DIR / "architecture").glob("*.yaml")}
    result = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "architecture" and value and not set(value.split(",")) <= names:
            result += ["architecture=file", f"architecture.path={','.join(map(quoted, value.split(',')))}"]
        else:
            result.append(argument)
    return result


def of_training(arguments: list[str]) -> list[str]:
    """Let single settings of the groups that evaluate.py takes from the training run be given as any others.

    Hydra does not know them when it reads the command line, and asks for a + before them.
    """
    chosen = {argument.partition("=")[0].lstrip("+") for argument in arguments}
    return [
        f"++{argument}" if (group := _OF_TRAINING.match(argument)) and group[1] not in chosen else argument
        for argument in arguments
    ]


def _readable(arguments: list[str]) -> list[str]:
    """A command line whose settings Hydra's grammar reads, see `fna_lightning.overrides.readable`."""
    given = get_args_parser().parse_args(arguments).overrides
    changed = dict(zip(given, readable(given), strict=True))
    return [changed.get(argument, argument) for argument in arguments]


def _single_run(arguments: list[str]) -> bool:
    """Whether the command line asks for one run, and not for a sweep, for help or to see the settings.

    Raises:
        ConfigError: where it asks Hydra to read a pickle.
    """
    given = get_args_parser().parse_args(arguments)
    if given.experimental_rerun is not None:
        raise ConfigError(
            f"--experimental-rerun={given.experimental_rerun}: a pickle can run code and is never read here; "
            "run again by --config-dir <run directory> --config-name config"
        )
    return not (
        given.multirun or given.help or given.hydra_help or given.cfg or given.info or given.shell_completion
    )


def one_line(error: BaseException) -> str:
    """What went wrong and how to mend it, without Hydra's page around it."""
    return complaints.one_line(error, "how settings are written", _hint, _otherwise)


def _hint(key: str, chain: list[BaseException]) -> str:
    from fna_lightning.runs.validation import how_to_add  # which loads torch

    parent = _parent(chain)
    beside = {} if parent is None else OmegaConf.to_container(parent, resolve=False)
    added = how_to_add(key, beside) if isinstance(beside, dict) else None
    return f": {added or did_you_mean(key, _keys_beside(parent))}"


def _otherwise(chain: list[BaseException]) -> str:
    for link in chain:
        if isinstance(link, MissingConfigException) and (option := _NO_OPTION.search(str(link))):
            return _no_option(option[1], option[2], link.options)
    text = str(chain[-1] if str(chain[-1]) else chain[0])
    if there := _THERE_ALREADY.search(text):
        return f"+{there[1]}: is there already; leave out the +"
    return " ".join([line.strip() for line in text.splitlines() if line.strip()][:3])


def _is_users(error: BaseException) -> bool:
    """Whether Hydra only wraps an error of ours, or complains of the command line itself."""
    links = causes(error)
    # Hydra reports a malformed override with its parser's own errors behind it.
    if any(isinstance(link, (UserError, OverrideParseException)) for link in links):
        return True
    return all(isinstance(link, (HydraException, OmegaConfBaseException)) for link in links)


def _no_option(group: str, name: str, options: Sequence[str] | None) -> str:
    """Say that a group has no option of that name; Hydra lists those beside it only where its folder exists."""
    if not options:
        group, _, folder = group.partition("/")
        name = f"{folder}/{name}" if folder else name
        files = (CONF_DIR / group).rglob("*.yaml")
        options = [path.relative_to(CONF_DIR / group).with_suffix("").as_posix() for path in files]
    close = difflib.get_close_matches(name, options, n=1)
    nearest = f"did you mean {group}={close[0]}? " if close else ""
    return f"there is no {group}={name}: {nearest}choose among {', '.join(sorted(options))}"


def _parent(chain: list[BaseException]) -> DictConfig | None:
    """The settings among which an unknown key was asked for."""
    parents = (getattr(link, "parent_node", None) for link in chain)
    return next((parent for parent in parents if isinstance(parent, DictConfig)), None)


def _keys_beside(parent: DictConfig | None) -> set[str]:
    """The keys of these settings; at the top, the groups as well."""
    if parent is None:
        return set()
    groups = set() if parent._get_parent() else {path.name for path in CONF_DIR.iterdir() if path.is_dir()}
    return groups | {str(key) for key in parent}
