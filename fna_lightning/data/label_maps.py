"""What the numbers in the label files of a segmentation set stand for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, TypeAlias

import cv2
import numpy as np

from fna_lightning.data.batches import IGNORED_LABEL
from fna_lightning.errors import ConfigError, DataError, listed

Array: TypeAlias = np.ndarray
Colour: TypeAlias = tuple[int, int, int]

_UNKNOWN = IGNORED_LABEL - 1  # a label that no class gets
_MOST_CLASSES = _UNKNOWN
_BLACK = (0, 0, 0)  # where there is no class

_CITYSCAPES: dict[str, tuple[int, Colour]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}

CITYSCAPES_CLASSES = {name: label_id for name, (label_id, _) in _CITYSCAPES.items()}
"""The 19 classes that Cityscapes scores, in the order of its trainIds, with their labelIds."""
CITYSCAPES_COLOURS = {name: colour for name, (_, colour) in _CITYSCAPES.items()}
"""In which Cityscapes shows them: red, green, blue."""
CITYSCAPES_IDS = (*range(34), 255)
"""All labelIds; the licence plate's -1 is 255 in a file of 8 bits."""


@dataclass(frozen=True)
class LabelMap:
    """Label ids, which files hold, and labels, which networks learn: 0, 1, 2... for the classes.

    Args:
        class_names: Label k stands for class_names[k].
        class_ids: The ids of every class in label files, one or several.
        ignored: Ids of pixels that neither train nor score.
        colours: In which every class is shown: red, green, blue.
    """

    class_names: tuple[str, ...]
    class_ids: tuple[tuple[int, ...], ...]
    ignored: tuple[int, ...]
    colours: tuple[Colour, ...]

    def renumbered(self, order: Sequence[int], names: Sequence[str]) -> LabelMap:
        """The same with label k for the class that has been label order[k], which is called names[k]."""
        ids = tuple(self.class_ids[label] for label in order)
        return LabelMap(tuple(names), ids, self.ignored, tuple(self.colours[label] for label in order))

    def to_labels(self, ids: Array) -> Array:
        """The labels (H, W) uint8 of `ids` (H, W) uint8; `IGNORED_LABEL` where the id is one of `ignored`.

        Raises:
            DataError: There are ids of neither kind.
        """
        labels = cv2.LUT(ids, self._labels)
        if (labels == _UNKNOWN).any():
            raise DataError(f"has {self.describe(self.unknown_ids(np.unique(ids)))}")
        return labels

    def to_ids(self, labels: Array) -> Array:
        """Labels (H, W) uint8 as the first id of their class, uint8, for files that others score.

        `IGNORED_LABEL` becomes the first ignored id, or stays if there is none.
        """
        table = np.full(256, self.ignored[0] if self.ignored else IGNORED_LABEL, np.uint8)
        table[: len(self.class_ids)] = [ids[0] for ids in self.class_ids]
        return cv2.LUT(labels, table)

    def coloured(self, labels: Array) -> Array:
        """A picture (H, W, 3) uint8, RGB, of labels (H, W) uint8; black where there is no class."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.colours)] = self.colours
        return table[labels]

    def unknown_ids(self, ids: Array) -> list[int]:
        """Those of `ids` (K,) that are of no class and not ignored."""
        return ids[self._labels[ids] == _UNKNOWN].tolist()

    @staticmethod
    def describe(unknown: Sequence[int]) -> str:
        """Unknown ids in words, to follow 'has'."""
        several = "s" * (len(unknown) > 1)
        return f"label id{several} {listed(unknown)}, of no class and not in data.ignored"

    @cached_property
    def _labels(self) -> Array:
        """(256,) uint8: label of every id."""
        table = np.full(256, _UNKNOWN, np.uint8)
        for label, ids in enumerate(self.class_ids):
            table[list(ids)] = label
        table[list(self.ignored)] = IGNORED_LABEL
        return table


@dataclass(frozen=True)
class LabelFiles:
    """How labels that are found in pictures are written to files."""

    label_map: LabelMap
    """From labels to ids and colours."""
    suffix: str
    """What the pictures' names end with before the extension, such as "_leftImg8bit"; their labels' do not."""


def build_label_map(
    classes: Mapping[str, int | Sequence[int]] | None = None,
    ignored: Sequence[int] | None = None,
    colours: Mapping[str, Sequence[int]] | None = None,
) -> LabelMap:
    """A label map from settings of `data`.

    Args:
        classes: Name of every class in the order of labels, with the ids it has in label files; None for
            Cityscapes' 19.
        ignored: Ids of pixels that neither train nor score; None for all of Cityscapes' ids without a class.
        colours: Red, green and blue of some classes or all; the others get Cityscapes' if they have one of its
            names, or a colour of their own.

    Raises:
        ConfigError: An id comes twice or is none, there are no classes or too many, or a colour is none.
    """
    classes = CITYSCAPES_CLASSES if classes is None else classes
    if not isinstance(classes, Mapping) or not 1 <= len(classes) <= _MOST_CLASSES:
        raise ConfigError(
            f"data.classes={classes} does not name 1 to {_MOST_CLASSES} classes with their ids; "
            "write data.classes={road: 7, person: [24, 25]}"
        )
    ids = {name: _ids(f"data.classes.{name}", value) for name, value in classes.items()}
    for name, own in ids.items():
        if not isinstance(name, str) or not own:
            raise ConfigError(f"data.classes.{name}={list(own)}: give a text as the name and at least one id")
    known = {label_id for own in ids.values() for label_id in own}
    left = tuple(label_id for label_id in CITYSCAPES_IDS if label_id not in known)
    ignored = left if ignored is None else _ids("data.ignored", ignored)
    _require_once({**{f"data.classes.{name}": own for name, own in ids.items()}, "data.ignored": ignored})
    return LabelMap(tuple(ids), tuple(ids.values()), tuple(ignored), _colours(list(ids), colours or {}))


def _ids(key: str, value: Any) -> tuple[int, ...]:
    values = (value,) if type(value) is int else value
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence) or not all(map(_is_byte, values)):
        raise ConfigError(f"{key}={value} is no label id, nor a list of them; ids are whole numbers from 0 to 255")
    return tuple(values)


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _require_once(ids: Mapping[str, Sequence[int]]) -> None:
    """Require that no id comes twice under the keys of the configuration."""
    owner: dict[int, str] = {}
    for key, own in ids.items():
        for label_id in own:
            if label_id in owner:
                raise ConfigError(
                    f"{key}={list(own)}: id {label_id} is in {owner[label_id]} too; take it out of one"
                )
            owner[label_id] = key


def _colours(names: Sequence[str], given: Mapping[str, Sequence[int]]) -> tuple[Colour, ...]:
    """The colour of every class; given ones first."""

    def refuse(name: str, reason: str) -> NoReturn:
        raise ConfigError(f"data.colours.{name}={given[name]}: {reason}")

    chosen: dict[str, Colour] = {name: colour for name, colour in CITYSCAPES_COLOURS.items() if name in names}
    for name, colour in given.items():
        if name not in names:
            refuse(name, "is no class of data.classes; remove it")
        if not isinstance(colour, Sequence) or len(colour) != 3 or not all(map(_is_byte, colour)):
            refuse(name, "is no colour; give [red, green, blue], each from 0 to 255")
        chosen[name] = (colour[0], colour[1], colour[2])
    for name in names:
        if name not in chosen:
            chosen[name] = _unlike({_BLACK, *chosen.values()})
    return tuple(chosen[name] for name in names)


def _unlike(colours: Collection[Colour]) -> Colour:
    """Of a grid of colours, the one farthest from its nearest among `colours`."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 7).astype(int)] * 3), axis=-1).reshape(-1, 1, 3)
    distances = np.abs(grid - np.array(list(colours))).sum(axis=-1).min(axis=1)
    red, green, blue = grid[distances.argmax(), 0].tolist()
    return red, green, blue
