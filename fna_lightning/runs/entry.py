"""How an entry point starts and how it fails: one line for what a user can mend, a traceback for the rest."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from fna_lightning.errors import UserError
from fna_lightning.files import CONF_DIR

EXIT_USER_ERROR = 2

_show_traceback = False
_FULL_ERROR = "HYDRA_FULL_ERROR"
_NO_OPTION = re.compile(
    r"Could not find '([^']+)'.*?Available options in '[^']+':\s*(.*?)\s*Config search path", re.DOTALL
)


def launch(main: Callable[[], Any]) -> None:
    """Run a Hydra main function; what a user can mend is printed as one line, and the exit code is 2.

    `HYDRA_FULL_ERROR=1` shows the traceback instead.
    """
    # Read when torch is loaded, which is later. Idle threads that spin for long take the cores from loader
    # processes and neighbours, which on a busy machine makes a step ten times slower.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.argv[1:] = short_architecture(sys.argv[1:])
    global _show_traceback
    _show_traceback = os.environ.get(_FULL_ERROR) == "1"
    # Makes Hydra raise errors to us, instead of printing its own page and leaving with 1.
    os.environ[_FULL_ERROR] = "1"
    with friendly():
        main()


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
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    except KeyboardInterrupt:
        print("interrupted; continue with resume=<this run's directory>", file=sys.stderr)
        sys.exit(130)


def short_architecture(arguments: list[str]) -> list[str]:
    """Let `architecture=` take files and run directories besides the names in `conf/architecture/`."""
    names = {path.stem for path in (CONF_DIR / "architecture").glob("*.yaml")}
    result = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "architecture" and value and not set(value.split(",")) <= names:
            quoted = ",".join("'" + part.replace("'", r"\'") + "'" for part in value.split(","))
            result += ["architecture=file", f"architecture.path={quoted}"]
        else:
            result.append(argument)
    return result


def one_line(error: BaseException) -> str:
    """What went wrong and how to mend it, without Hydra's page around it."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, UserError):
            # From a loader process an error arrives with its whole traceback, the message last.
            last = [line for line in str(link).splitlines() if line.strip()][-1]
            return re.sub(r"^fna_lightning\.errors\.\w+: ", "", last.strip())
    for link in chain:
        if isinstance(link, OverrideParseException):
            reason = str(link).splitlines()[0]
            return f"{link.override}: cannot be read ({reason}); --help shows how settings are written"
    text = " ".join(str(link) for link in chain)
    unknown = re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", text)
    if unknown:
        return f"unknown key {unknown[2]}{_nearest(unknown[1])}; --cfg job lists all keys"
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"{missing[1]} is not set: give {missing[1]}=<value>"
    lines = [line.strip() for line in str(chain[-1] if str(chain[-1]) else error).splitlines() if line.strip()]
    option = _NO_OPTION.search(text)
    if option:
        return f"there is no {option[1]}: choose among {', '.join(option[2].split())}"
    return " ".join(lines[:3])


def _is_users(error: BaseException) -> bool:
    """Whether Hydra only wraps an error of ours, or complains of the command line itself."""
    causes = _chain(error)
    # Hydra reports a malformed override with its parser's own errors behind it.
    if any(isinstance(link, (UserError, OverrideParseException)) for link in causes):
        return True
    return all(isinstance(link, (HydraException, OmegaConfBaseException)) for link in causes)


def _chain(error: BaseException) -> list[BaseException]:
    links, link = [], error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _nearest(key: str) -> str:
    """The keys of `conf/` most like `key`, as a hint."""
    words = {word for path in CONF_DIR.rglob("*.yaml") for word in re.findall(r"(\w+):", path.read_text())}
    close = difflib.get_close_matches(key, words, n=2)
    return f": did you mean {' or '.join(close)}?" if close else ""
