"""Settings on a command line, as users write them and as Hydra's grammar reads them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

_WRITTEN_OUT = ("'", '"', "[", "{")  # how values begin that the grammar is meant to read
_IN_QUOTES = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(\s*:)?""", re.DOTALL)
"""What stands in quotes in a mapping; a colon follows a key."""
_TO_ESCAPE = re.compile(r"[\\()\[\]{}:=, \t]")


def readable(overrides: Sequence[str]) -> list[str]:
    """Quote values that the grammar refuses and that can only be texts, such as paths with `=` in them.

    Whatever the grammar reads stays as it is, and so do lists, mappings and texts with a mistake in them. In a
    list of values, as sweeps have them, each is quoted, unless the whole is the name of a file. Of mappings it
    refuses keys in quotes, which are written without.
    """
    parser = OverridesParser.create()
    return [text if _is_read(parser, text) else _quoted(parser, text) for text in overrides]


def mend_of_mapping(override: str) -> str:
    """How to write an override that the grammar refuses if its value is a mapping; else nothing."""
    key, _, value = override.partition("=")
    if not value.lstrip().startswith("{"):
        return ""
    parser, group = OverridesParser.create(), key.lstrip("+~").replace(".", "/")
    for text in (match[1] for match in _IN_QUOTES.finditer(value) if match[2]):
        if _bare_key(parser, text) is None:
            return (
                f"the name {text} can only stand in a file: write the mapping into <folder>/{group}/<name>.yaml "
                f"and give hydra.searchpath=[<folder>] +{group}=<name>"
            )
    return "write {name: value, ...}, and names of more than letters and digits in quotes"


def given_keys() -> set[str]:
    """The groups and dotted keys that the command line of this job sets; none outside Hydra."""
    if not HydraConfig.initialized():
        return set()
    return {text.partition("=")[0].lstrip("+~") for text in HydraConfig.get().overrides.task}


def quoted(value: str) -> str:
    """`value` so that the grammar reads this text, whatever is in it."""
    return QuotedString(value, Quote.single).with_quotes()


def _quoted(parser: OverridesParser, override: str) -> str:
    """The override with its value in quotes, or a mapping's keys without; as it is where that is of no use."""
    key, _, value = override.partition("=")
    if value.lstrip().startswith("{"):
        result = f"{key}={_IN_QUOTES.sub(partial(_without_quotes, parser), value)}"
        return result if _is_read(parser, result) else override
    parts = [value] if _is_file(value) else value.split(",")
    refused = [part for part in parts if not _is_read(parser, f"{key}={part}")]
    # Without a separator of folders or of names it may as well be a mistyped number or function.
    if any(part.startswith(_WRITTEN_OUT) or not (set(part) & {"=", "/"} or _is_file(part)) for part in refused):
        return override
    if not refused:
        return override
    result = f"{key}={','.join(quoted(part) if part in refused else part for part in parts)}"
    return result if _is_read(parser, result) else override


def _without_quotes(parser: OverridesParser, text: re.Match[str]) -> str:
    """What stands in quotes in a mapping; a key without them, where that is possible."""
    bare = _bare_key(parser, text[1]) if text[2] else None
    return text[0] if bare is None else f"{bare}{text[2]}"


def _bare_key(parser: OverridesParser, text: str) -> str | None:
    """The key `text`, in quotes, as the grammar reads it in a mapping; None if it does not, or not as that."""
    try:
        name = str(parser.parse_override(f"key={text}").value())
        bare = _TO_ESCAPE.sub(r"\\\g<0>", name)
        found = parser.parse_override(f"key={{{bare}: 0}}").value()
    except HydraException:
        return None
    return bare if isinstance(found, dict) and [str(key) for key in found] == [name] else None


def _is_file(value: str) -> bool:
    return os.path.exists(value)  # noqa: PTH110 - of any text, also of one that is too long for a name


def _is_read(parser: OverridesParser, override: str) -> bool:
    try:
        parser.parse_override(override)
    except HydraException:
        return False
    return True
