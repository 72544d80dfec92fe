"""Detectors in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fna_lightning.data.batches import DetectionBatch
from fna_lightning.deployment.network import Found, Network, register
from fna_lightning.detectors import Detections
from fna_lightning.errors import ConfigError
from fna_lightning.reporting.pictures import boxes_on

THRESHOLD = 0.3
"""Least score of boxes, unless another is asked for."""


@dataclass(frozen=True, eq=False)
class FoundBoxes(Found):
    """The boxes found in one picture, best first."""

    names: tuple[str, ...]
    """D names of classes."""
    scores: np.ndarray
    """(D,) float32 in [0, 1], not increasing."""
    labels: np.ndarray
    """(D,) int64, from 0."""
    boxes: np.ndarray
    """(D, 4) float32: x1, y1, x2, y2 in pixels of the picture as it was given."""
    size: tuple[int, int]
    """Height and width of the picture."""

    def __len__(self) -> int:
        return len(self.scores)

    def drawn(self, pixels: np.ndarray) -> np.ndarray:
        """With boxes, names and scores."""
        return boxes_on(pixels, self.boxes, self.labels.tolist(), self.names, self.scores.tolist())

    def rasters(self) -> dict[str, np.ndarray]:
        """None."""
        return {}

    def summary(self) -> list[dict[str, Any]]:
        """Entries of a COCO results file, without the picture's id; the first class has the category id 1."""
        corners = np.concatenate([self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]], axis=1)
        columns = zip(self.labels.tolist(), corners.tolist(), self.scores.tolist(), strict=True)
        return [{"category_id": label + 1, "bbox": box, "score": score} for label, box, score in columns]


@register("detection")
class DetectionNetwork(Network):
    """A detector; `predict` returns `FoundBoxes`."""

    def checked_threshold(self, threshold: float | None) -> float:
        """Least score of boxes; 0.3 stands for None, and 0 keeps whatever the detector finds.

        Raises:
            ConfigError: it is not from 0 to 1.
        """
        if threshold is None:
            return THRESHOLD
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold={threshold}: give the least score of boxes, from 0 to 1")
        return threshold

    def documents(
        self, images: Sequence[Mapping[str, Any]], summaries: Sequence[list[dict[str, Any]]]
    ) -> dict[str, Any]:
        """The same boxes in two of COCO's formats.

        `detections.json` is a data set whose boxes have scores, `predictions.json` a results file for it.
        """
        entries = [
            {"image_id": image["id"], **entry}
            for image, found in zip(images, summaries, strict=True)
            for entry in found
        ]
        categories = [{"id": number, "name": name} for number, name in enumerate(self.class_names, start=1)]
        annotations = [
            {"id": number, **entry, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
            for number, entry in enumerate(entries, start=1)
        ]
        whole = {"images": list(images), "categories": categories, "annotations": annotations}
        return {"detections.json": whole, "predictions.json": entries}

    def results(
        self, predictions: Sequence[Detections], batch: DetectionBatch, threshold: float | None
    ) -> list[FoundBoxes]:
        """Boxes of at least that score, in pixels of the pictures as they were."""
        least, sizes = self.checked_threshold(threshold), batch.original_sizes.tolist()
        found = []
        for each, scale, (height, width) in zip(predictions, batch.scales, sizes, strict=True):
            kept = each.scores >= least
            labels = each.labels[kept].cpu().numpy()
            boxes = (each.boxes * scale.to(each.boxes))[kept].float().cpu().numpy()
            names = tuple(self.class_names[label] for label in labels.tolist())
            scores = each.scores[kept].float().cpu().numpy()
            found.append(FoundBoxes(names, scores, labels, boxes, (height, width)))
        return found
