"""Label files that were resized as pictures are: ids along edges that are means of the two beside them."""

from __future__ import annotations

import numpy as np

_SEEN = 500_000  # pixels that tell enough of a file
_LEAST = 100  # of these, which one thin object hardly has
_BLENDED = 0.35
"""Of the edges. Files of CamVid have under 0.19 in any size, and if they are interpolated nearly all have 0.35."""
_BY_CHANCE = 1 / 3


def blended_share(ids: np.ndarray) -> float:
    """The share of the edges in a label file that lead over ids in between, if they seem to be interpolated.

    A mean of two ids lies between them, and stands there one pixel wide. Ids of classes have no order that means
    anything: where a class is one pixel wide, its id is between the two beside it at most once in three times, and
    else over or under both.

    Args:
        ids: (H, W) uint8.

    Returns:
        In [0, 1]; 0 where nothing speaks for it, as where the file is small or classes are as large as usual.
    """
    step = 1 + ids.size // _SEEN
    rows, columns = ids[::step], np.ascontiguousarray(ids[:, ::step].T)
    between, beyond, sharp = (_edges(rows) + _edges(columns)).tolist()
    share = between / max(between + sharp, 1)
    seems = between >= _LEAST and share > _BLENDED and between > _BY_CHANCE * (between + beyond)
    return share if seems else 0.0


def _edges(ids: np.ndarray) -> np.ndarray:
    """What ids (N, L) uint8 do along their second axis, counted.

    Returns:
        (3,) int64: pixels between their two neighbours, pixels over or under both, and edges with two equal pixels
        on either side.
    """
    rises, falls = ids[:, :-1] < ids[:, 1:], ids[:, :-1] > ids[:, 1:]
    same = ~(rises | falls)
    between = (rises[:, :-1] & rises[:, 1:]) | (falls[:, :-1] & falls[:, 1:])
    beyond = (rises[:, :-1] & falls[:, 1:]) | (falls[:, :-1] & rises[:, 1:])
    sharp = same[:, :-2] & ~same[:, 1:-1] & same[:, 2:]
    return np.array([np.count_nonzero(found) for found in (between, beyond, sharp)])
