"""Detections of a whole validation run, gathered over ranks and scored once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from fna_lightning.data.batches import DetectionBatch
from fna_lightning.detectors.base import Detections
from fna_lightning.distributed import gather_objects, num_ranks
from fna_lightning.errors import ConfigError, DataError
from fna_lightning.files import write_text
from fna_lightning.tasks.base import Metric
from fna_lightning.tasks.coco_scores import Backend, read_annotations, score
from fna_lightning.tasks.voc_scores import voc_scores

AP = "AP"
"""COCO's mAP of one class."""


@dataclass
class _Records:
    """Detections of some images, as flat arrays: 28 bytes for each."""

    image_ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(I,) the images looked at, also those in which nothing was found."""
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(I,) detections of each image."""
    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    """(D, 4) x, y, width, height in pixels of the original picture, image after image."""
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    """(D,)."""
    categories: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """(D,) the data set's category ids."""

    @classmethod
    def merge(cls, parts: Sequence[_Records]) -> _Records:
        """One after the other."""
        if not parts:
            return cls()
        return cls(
            np.concatenate([part.image_ids for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.categories for part in parts]),
        )

    def unique(self) -> _Records:
        """Sorted by image id, the first of every image: samplers repeat images to fill the last batch."""
        ids, first = np.unique(self.image_ids, return_index=True)
        # One piece per image and an empty last one, which also serves where there is no image.
        rows = np.split(np.arange(len(self.scores)), np.cumsum(self.counts))
        chosen = np.concatenate([rows[-1], *(rows[image] for image in first)])
        return _Records(ids, self.counts[first], self.boxes[chosen], self.scores[chosen], self.categories[chosen])

    def entries(self) -> list[dict[str, Any]]:
        """As the entries of a COCO results file."""
        columns = zip(
            np.repeat(self.image_ids, self.counts).tolist(),
            self.categories.tolist(),
            self.boxes.tolist(),
            self.scores.tolist(),
            strict=True,
        )
        return [
            {"image_id": image, "category_id": category, "bbox": box, "score": value}
            for image, category, box, value in columns
        ]


class CocoMetric(Metric[DetectionBatch]):
    """COCO's twelve figures over the images that were evaluated.

    After a full run these are all images of the annotation file, as COCO wants it; where only a part was
    evaluated (a sanity check, a limit on validation batches), the others do not count as missed. If
    nothing was evaluated at all, every annotation counts as missed.

    In a distributed run `compute` is a collective call: detections are gathered, rank 0 scores them once and
    every rank returns its figures. An image evaluated twice counts once.

    Args:
        annotations: COCO annotations of the validation images: a file, or what one holds.
        category_ids: COCO category id of every label; other categories do not count.
        backend: "faster_coco_eval", or "pycocotools" for the same figures, more slowly.
        voc: whether to add Pascal VOC's figures, see `voc_scores`.

    Raises:
        ConfigError: the backend is unknown.
        DataError: the annotation file does not exist.
    """

    def __init__(
        self,
        annotations: str | os.PathLike[str] | Mapping[str, Any],
        category_ids: Sequence[int],
        backend: Backend = "faster_coco_eval",
        voc: bool = False,
    ) -> None:
        if backend not in get_args(Backend):
            raise ConfigError(f"backend={backend}: choose one of {', '.join(get_args(Backend))}")
        self._annotations = annotations if isinstance(annotations, Mapping) else Path(annotations)
        if isinstance(self._annotations, Path) and not self._annotations.is_file():
            raise DataError(f"{self._annotations}: no such annotation file")
        self.category_ids = np.asarray(list(category_ids), dtype=np.int64)
        self.backend: Backend = backend
        self.voc = voc
        self._truth: dict[str, Any] | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all detections and figures."""
        self._parts: list[_Records] = []
        self._gathered: _Records | None = None
        self._per_class: dict[str, dict[str, float]] = {}

    def update(self, predictions: list[Detections], batch: DetectionBatch) -> None:
        """Take in the detections of one batch, scaled back to the original pictures.

        Args:
            predictions: one per image, in pixels of the batch's images.
            batch: for `image_ids`, `sizes` and `original_sizes`.

        Raises:
            ConfigError: a label has no category, that is, the network has more classes than the data set.
        """
        boxes = torch.cat(
            [found.boxes * scale.to(found.boxes) for found, scale in zip(predictions, batch.scales, strict=True)]
        )
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1)
        labels = torch.cat([found.labels for found in predictions]).cpu().numpy()
        if labels.size and labels.max() >= len(self.category_ids):
            raise ConfigError(
                f"num_classes: the network found label {labels.max()}, but the data set has only "
                f"{len(self.category_ids)} categories"
            )
        self._parts.append(
            _Records(
                batch.image_ids.cpu().numpy(),
                np.asarray([len(found) for found in predictions], dtype=np.int64),
                boxes.float().cpu().numpy(),
                torch.cat([found.scores for found in predictions]).float().cpu().numpy(),
                self.category_ids[labels],
            )
        )
        self._gathered = None

    def compute(self) -> dict[str, float]:
        """Score everything since `reset`.

        Returns:
            mAP, mAP_50, mAP_75, mAP_small, mAP_medium, mAP_large, mAR_1, mAR_10, mAR_100, mAR_small,
            mAR_medium, mAR_large, and VOC_AP_11 and VOC_AP_area if asked for; in [0, 1], or -1 where there is
            nothing to find, for example no small object.

        Raises:
            DataError: the annotation file is broken, or an evaluated image is not in it.
        """
        local = _Records.merge(self._parts)
        if num_ranks() == 1:
            self._gathered = local.unique()
            figures, self._per_class = self._score(self._gathered)
            return figures

        self._gathered = _Records.merge(gather_objects(local)).unique()
        # The others wait for rank 0's answer, so its failure is an answer too.
        answer: list[Any] = [None]
        if dist.get_rank() == 0:
            try:
                answer = [self._score(self._gathered)]
            except Exception as error:
                answer = [error]
        dist.broadcast_object_list(answer, src=0)
        if isinstance(answer[0], Exception):
            raise answer[0]
        figures, self._per_class = answer[0]
        return figures

    def per_class(self, figure: str = AP) -> dict[str, float]:
        """One figure by category name, as of the last `compute`; -1 where a category has no annotation.

        Args:
            figure: AP, that is mAP of one class; or, if asked for, VOC_AP_11 or VOC_AP_area.
        """
        return self._per_class.get(figure, {})

    def class_scores(self) -> dict[str, float]:
        """Everything that `per_class` knows, by `<figure>/<category name>`."""
        return {
            f"{figure}/{name}": value for figure, table in self._per_class.items() for name, value in table.items()
        }

    def results(self) -> list[dict[str, Any]]:
        """The entries of a COCO results file, by image: of all ranks after `compute`, else of this rank."""
        records = self._gathered if self._gathered is not None else _Records.merge(self._parts).unique()
        return records.entries()

    def write_results(self, path: str | os.PathLike[str]) -> None:
        """Write `results` as a COCO results file, whole or not at all; call it on one rank."""
        write_text(Path(path), json.dumps(self.results()))

    def save_results(self, folder: Path) -> None:
        """Write `detections.json`, a COCO results file."""
        self.write_results(folder / "detections.json")

    def _score(self, records: _Records) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
        """All figures, and by category name those that are known of each."""
        if self._truth is None:
            self._truth = read_annotations(self._annotations)
        known = {image["id"] for image in self._truth["images"]}
        seen = records.image_ids.tolist()
        unknown = sorted(set(seen) - known)
        if unknown:
            name = self._annotations if isinstance(self._annotations, Path) else "the annotations"
            raise DataError(f"{name}: evaluated image {unknown[0]} is not among the images")
        images, categories, entries = seen or sorted(known), self.category_ids.tolist(), records.entries()
        figures, per_category = score(self._truth, entries, images, categories, self.backend)
        tables = {AP: per_category}
        if self.voc:
            more, of_voc = voc_scores(self._truth["annotations"], entries, images, categories)
            figures, tables = figures | more, tables | of_voc
        names = {entry["id"]: str(entry["name"] or entry["id"]) for entry in self._truth["categories"]}
        return figures, {
            figure: {names.get(category, str(category)): value for category, value in table.items()}
            for figure, table in tables.items()
        }
