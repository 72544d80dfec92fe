"""Names of the feature maps of a network in stages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fna_lightning.errors import ConfigError

_MAP_NAME = re.compile(r"(-?[0-9]{1,4})(\.expand)?")


class MapName(NamedTuple):
    """A map of a network by stage: `6` is what stage 6 returns.

    `6.expand` is the map inside its first layer between expansion and depthwise convolution, still at the
    resolution of the stage before. Names sort as the network computes the maps.
    """

    stage: int
    whole: bool = True

    @classmethod
    def parse(cls, name: int | str) -> MapName:
        """Read a stage's number, or `<number>.expand`.

        Raises:
            ConfigError: for any other text.
        """
        match = _MAP_NAME.fullmatch(str(name))
        if match is None:
            raise ConfigError(
                f"the map {str(name)[:40]!r}: give the number of a stage such as 6, or 6.expand for what the "
                "expansion in its first layer gives"
            )
        return cls(int(match[1]), match[2] is None)

    def __str__(self) -> str:
        return f"{self.stage}" if self.whole else f"{self.stage}.expand"


def wanted_maps(out_stages: Sequence[int | str], last: int) -> list[MapName]:
    """The maps of `out_stages` once each, in the order in which they are computed.

    Args:
        out_stages: names, see `MapName`.
        last: the number of the network's last stage.

    Raises:
        ConfigError: where the network has no such stages, or none is asked for.
    """
    wanted = sorted({MapName.parse(name) for name in out_stages})
    if not wanted or wanted[0].stage < 0 or wanted[-1].stage > last:
        raise ConfigError(
            f"out_stages={list(out_stages)}: give numbers from 0 (stem) to {last} (last 1x1), or such as 6.expand"
        )
    return wanted
