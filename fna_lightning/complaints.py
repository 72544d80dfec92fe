"""What a command says of an error: one line, without the page that Hydra and OmegaConf write around it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import NoReturn

from hydra.errors import OverrideParseException

from fna_lightning.errors import UserError
from fna_lightning.exit_codes import USER_ERROR
from fna_lightning.overrides import mend_of_mapping

HELP_SHOWS = "how it is used"
"""What `--help` of a command with a `Parser` explains."""
_UNKNOWN = re.compile(r"Key '[^']+' is not in struct\s+full_key: (\S+)")
_MISSING = re.compile(r"Missing mandatory value: (\S+)")


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, as all commands here do."""

    def error(self, message: str) -> NoReturn:
        """Leave with the code of what a user can mend."""
        self.exit(USER_ERROR, f"error: {message}; --help shows {HELP_SHOWS}\n")


def one_line(
    error: BaseException,
    help_shows: str,
    hint: Callable[[str, list[BaseException]], str],
    otherwise: Callable[[list[BaseException]], str],
) -> str:
    """What went wrong and how to mend it.

    Args:
        error: ours, or one that Hydra or OmegaConf raised.
        help_shows: what the command's `--help` explains of overrides.
        hint: (unknown key, errors) -> what follows its name.
        otherwise: (errors) -> the line for everything else. Errors are `error` and its causes, outermost first.
    """
    chain = causes(error)
    for link in chain:
        if isinstance(link, UserError):
            # From a loader process an error arrives with its whole traceback, the message last.
            last = [line for line in str(link).splitlines() if line.strip()][-1]
            return re.sub(r"^fna_lightning\.errors\.\w+: ", "", last.strip())
    for link in chain:
        if isinstance(link, OverrideParseException):
            reason = str(link).splitlines()[0]
            mend = mend_of_mapping(link.override) or f"--help shows {help_shows}"
            return f"{link.override}: cannot be read ({reason}); {mend}"
    text = " ".join(str(link) for link in chain)
    if unknown := _UNKNOWN.search(text):
        return f"unknown key {unknown[1]}{hint(unknown[1], chain)}"
    if missing := _MISSING.search(text):
        return f"{missing[1]} is not set: give {missing[1]}=<value>"
    return otherwise(chain)


def causes(error: BaseException) -> list[BaseException]:
    """An error and what it came from, outermost first."""
    links, link = [], error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links
