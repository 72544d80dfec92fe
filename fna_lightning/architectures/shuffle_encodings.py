"""How DetNAS's architectures are published: integers (the authors), or YAML by block (mmrazor); spec DetNAS 1.4.

Neither says widths. They are those of the setting that has as many blocks; both publishers use these alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fna_lightning.errors import ArchitectureError

CANDIDATES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "xception_3x3")
"""The operations of a block, in the order in which integers count them."""
XCEPTION = CANDIDATES[3]

_ALIASES = {
    **{f"shufflenet_{kernel}": f"shuffle_{kernel}" for kernel in ("3x3", "5x5", "7x7")},  # the authors'
    "shuffle_xception": XCEPTION,  # mmrazor's
}
_ITEMS = re.compile(r"\s*(?:-[ \t]+\d+[ \t\r]*(?:\n\s*|$))+")  # a list in YAML, a line each
_PLACE = re.compile(
    r"(?:(?:architecture\.)?backbone\.layers\.|stage_)(?P<stage>[0-9]{1,2})(?:\.|_block_)(?P<block>[0-9]{1,2})"
)


class Setting(NamedTuple):
    """Widths and depths of a published search space (spec DetNAS 1.1)."""

    label: str
    stem_width: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    tail_width: int

    @property
    def blocks(self) -> int:
        """Of all stages."""
        return sum(self.depths)

    def by_stage(self, layers: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """The operations of all blocks in order, a stage at a time."""
        left = iter(layers)
        return (tuple(next(left) for _ in range(depth)) for depth in self.depths)


SETTINGS = (
    Setting("300M", 16, (64, 160, 320, 640), (4, 4, 8, 4), 1024),
    Setting("1.3G", 48, (96, 240, 480, 960), (8, 8, 16, 8), 1024),
)
"""Those that an encoding without widths may mean. The 3.8G network has the integers of the 1.3G one."""


def parse_candidate(name: object, where: str) -> str:
    """The project's name of an operation, from that or from the authors' or mmrazor's.

    Raises:
        ArchitectureError: for any other value, found at `where`.
    """
    known = _ALIASES.get(name, name) if isinstance(name, str) else None
    if known not in CANDIDATES:
        raise ArchitectureError(f"{where} is {str(name)[:40]!r}: choose {', '.join(CANDIDATES)}")
    return known


def kernel_of(candidate: str) -> int:
    """The side in taps of an operation's depthwise convolutions."""
    return int(candidate[-1])


def parse_integers(text: str) -> tuple[Setting, list[str]]:
    """The authors' list or tuple of integers, one a block, as (setting, operations); also as YAML's `- 2` lines.

    20 integers are of the 300M setting, 40 of the 1.3G one. Only literals are read, nothing is evaluated.

    Raises:
        ArchitectureError: naming the integer, or how many there are.
    """
    if _ITEMS.fullmatch(text):
        text = f"[{', '.join(re.findall(r'[0-9]+', text))}]"
    try:
        values = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ArchitectureError(
            f"{text.strip()[:60]!r} is no list of integers: write one a block, as [2, 1, 2, 0, ...]"
        ) from error
    if not isinstance(values, (list, tuple)):
        raise ArchitectureError(f"{text.strip()[:60]!r} is no list of integers: write it in brackets")
    setting = next((each for each in SETTINGS if each.blocks == len(values)), None)
    if setting is None:
        counts = " or ".join(f"{each.blocks} ({each.label} setting)" for each in SETTINGS)
        raise ArchitectureError(f"an architecture of {len(values)} integers: give {counts}")
    for number, value in enumerate(values, start=1):
        if type(value) is not int or not 0 <= value < len(CANDIDATES):
            meanings = ", ".join(f"{index} ({name})" for index, name in enumerate(CANDIDATES))
            raise ArchitectureError(f"integer {number} is {str(value)[:40]}: choose {meanings}")
    return setting, [CANDIDATES[value] for value in values]


def is_mmrazor(data: Mapping[Any, Any]) -> bool:
    """Whether a mapping names blocks as mmrazor's YAML files do."""
    return any(isinstance(key, str) and _PLACE.fullmatch(key) for key in _blocks_of(data))


def parse_mmrazor(data: Mapping[Any, Any]) -> tuple[Setting, list[str]]:
    """The YAML of mmrazor, as (setting, operations).

    Blocks are `backbone.layers.0.0: {chosen: shuffle_3x3}`, with or without `architecture.` before it (1.x), or
    `stage_0_block_0: {chosen: [shuffle_3x3]}` (0.x); files converted between the two have them under `modules:`,
    the name alone beside each. Stages and blocks count from 0.

    Raises:
        ArchitectureError: naming the block that is missing, unknown or of another form.
    """
    found = {}
    for key, value in _blocks_of(data).items():
        match = _PLACE.fullmatch(str(key))
        if match is None:
            raise ArchitectureError(f"{str(key)[:40]!r} is no block: write backbone.layers.<stage>.<block>")
        found[int(match["stage"]), int(match["block"])] = parse_candidate(_chosen(value), f"{key}: chosen")
    setting = min(SETTINGS, key=lambda each: abs(each.blocks - len(found)))
    places = [(stage, block) for stage, depth in enumerate(setting.depths) for block in range(depth)]
    _complain(setting, "lacks", (place for place in places if place not in found))
    _complain(setting, "has besides", (place for place in found if place not in places))
    return setting, [found[place] for place in places]


def _blocks_of(data: Mapping[Any, Any]) -> Mapping[Any, Any]:
    modules = data.get("modules")
    return modules if isinstance(modules, Mapping) else data


def _chosen(value: object) -> object:
    """The name in one of the forms that a block may have."""
    if isinstance(value, Mapping):
        value = value.get("chosen") if len(value) == 1 else dict(value)
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


def _complain(setting: Setting, what: str, places: Iterable[tuple[int, int]]) -> None:
    for stage, block in places:
        depths = ", ".join(map(str, setting.depths))
        raise ArchitectureError(
            f"the architecture {what} block {block} of stage {stage}: the {setting.label} setting, whose "
            f"{setting.blocks} blocks come nearest, has stages of {depths} blocks, all counted from 0"
        )
