"""Settings on a command line, as users write them and as Hydra's grammar reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

_WRITTEN_OUT = ("'", '"', "[", "{")  # how values begin that the grammar is meant to read


def readable(overrides: Sequence[str]) -> list[str]:
    """Quote values that the grammar refuses and that can only be texts, such as paths with `=` in them.

    Whatever the grammar reads stays as it is, and so do lists, mappings and texts with a mistake in them. In a
    list of values, as sweeps have them, each is quoted, unless the whole is the name of a file.
    """
    parser = OverridesParser.create()
    return [text if _is_read(parser, text) else _quoted(parser, text) for text in overrides]


def given_keys() -> set[str]:
    """The groups and dotted keys that the command line of this job sets; none outside Hydra."""
    if not HydraConfig.initialized():
        return set()
    return {text.partition("=")[0].lstrip("+~") for text in HydraConfig.get().overrides.task}


def quoted(value: str) -> str:
    """`value` so that the grammar reads this text, whatever is in it."""
    return QuotedString(value, Quote.single).with_quotes()


def _quoted(parser: OverridesParser, override: str) -> str:
    """The override with its value in quotes; as it is where that is of no use."""
    key, _, value = override.partition("=")
    parts = [value] if _is_file(value) else value.split(",")
    refused = [part for part in parts if not _is_read(parser, f"{key}={part}")]
    # Without a separator of folders or of names it may as well be a mistyped number or function.
    if any(part.startswith(_WRITTEN_OUT) or not (set(part) & {"=", "/"} or _is_file(part)) for part in refused):
        return override
    if not refused:
        return override
    result = f"{key}={','.join(quoted(part) if part in refused else part for part in parts)}"
    return result if _is_read(parser, result) else override


def _is_file(value: str) -> bool:
    return os.path.exists(value)  # noqa: PTH110 - of any text, also of one that is too long for a name


def _is_read(parser: OverridesParser, override: str) -> bool:
    try:
        parser.parse_override(override)
    except HydraException:
        return False
    return True
