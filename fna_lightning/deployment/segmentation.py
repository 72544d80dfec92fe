"""Segmenters in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from fna_lightning.data import LabelMap
from fna_lightning.data.batches import SegmentationBatch
from fna_lightning.data.classes import class_order
from fna_lightning.deployment.network import Found, Network, register
from fna_lightning.errors import CheckpointError, ConfigError, DataError
from fna_lightning.reporting.pictures import labels_on


@dataclass(frozen=True, eq=False)
class FoundLabels(Found):
    """The class of every pixel of one picture."""

    labels: np.ndarray
    """(H, W) uint8, from 0, of the picture as it was given."""
    label_map: LabelMap
    """Names, colours and ids of labels."""

    @property
    def names(self) -> tuple[str, ...]:
        """What labels stand for."""
        return self.label_map.class_names

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """In which labels are shown: red, green, blue."""
        return self.label_map.colours

    @property
    def ids(self) -> np.ndarray:
        """(H, W) uint8: the ids that the training's label files have for the classes."""
        return self.label_map.to_ids(self.labels)

    @property
    def coloured(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB: the labels in their colours."""
        return self.label_map.coloured(self.labels)

    def drawn(self, pixels: np.ndarray) -> np.ndarray:
        """Under the colours of the classes, with their names."""
        return labels_on(pixels, self.labels, self.colours, self.names)

    def rasters(self) -> dict[str, np.ndarray]:
        """`label_ids` and `coloured`, as `evaluate.py` writes them."""
        return {"label_ids": self.ids, "coloured": cv2.cvtColor(self.coloured, cv2.COLOR_RGB2BGR)}

    def summary(self) -> None:
        """Nothing but its files."""


@register("segmentation")
@dataclass(frozen=True, eq=False)  # again, so that __post_init__ is called
class SegmentationNetwork(Network):
    """A segmenter; `predict` returns `FoundLabels`."""

    def __post_init__(self) -> None:
        """Require at once what results need.

        Raises:
            CheckpointError: see `label_map`.
        """
        _ = self.label_map

    @cached_property
    def label_map(self) -> LabelMap:
        """Names, colours and ids of labels, in the network's order.

        Raises:
            CheckpointError: the checkpoint's classes are not those of the settings beside it.
        """
        own: LabelMap = self.data.label_map  # pyright: ignore[reportAttributeAccessIssue]
        try:
            return own.renumbered(class_order(self.class_names, own.class_names), self.class_names)
        except DataError as error:
            raise CheckpointError(f"{self.checkpoint}: {error}; restore the config.yaml of its run") from error

    def checked_threshold(self, threshold: float | None) -> None:
        """None: every pixel gets the class that is most probable there.

        Raises:
            ConfigError: there is one.
        """
        if threshold is not None:
            raise ConfigError(f"threshold={threshold}: is for boxes of detectors; leave it out for a segmenter")

    def documents(self, images: Sequence[Mapping[str, Any]], summaries: Sequence[None]) -> dict[str, Any]:
        """`segmentations.json`: the files of every picture, and what the ids in them stand for."""
        del summaries
        label_map = self.label_map
        categories = [
            {"id": int(ids[0]), "name": name, "colour": list(colour)}
            for ids, name, colour in zip(
                label_map.class_ids, label_map.class_names, label_map.colours, strict=True
            )
        ]
        return {"segmentations.json": {"images": list(images), "categories": categories}}

    def results(
        self, predictions: Sequence[Tensor], batch: SegmentationBatch, threshold: float | None
    ) -> list[FoundLabels]:
        """Labels of every pixel of the pictures as they were."""
        del batch, threshold
        return [FoundLabels(labels.cpu().numpy(), self.label_map) for labels in predictions]
