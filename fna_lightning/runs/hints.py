"""What to say of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST = 20  # names that fit on a line


def did_you_mean(place: str, names: Iterable[str]) -> str:
    """The one of `names` that is most like the last part of `place`, else all of them.

    Args:
        place: dotted key that is not there.
        names: what there is at that place.
    """
    group, _, name = place.rpartition(".")
    there = sorted(names)
    close = difflib.get_close_matches(name, there, n=1)
    if close:
        return f"did you mean {group}.{close[0]}?" if group else f"did you mean {close[0]}?"
    if 0 < len(there) <= _MOST:
        return f"{group} has {', '.join(there)}" if group else f"there are {', '.join(there)}"
    return "--cfg job lists all keys"
