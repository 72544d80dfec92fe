"""Labels of pixels, counted against the truth over a whole validation run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from fna_lightning.data.batches import IGNORED_LABEL, SegmentationBatch
from fna_lightning.distributed import works_together
from fna_lightning.errors import ConfigError
from fna_lightning.tasks.base import Metric


class SegmentationMetric(Metric[SegmentationBatch]):
    """Mean IoU and pixel accuracy over all pixels that are labelled.

    The IoU of a class is true positives / (true positives + false positives + false negatives), counted over the
    whole set and not image by image (spec FNA 6.3). The mean is over the classes that occur in the truth.
    A class that never does is left out also where it is predicted: each such pixel then counts against the class
    that it is of. Cityscapes' script and torchmetrics' macro mean would count that class as 0. On a whole
    validation set, where every class occurs, all three are the same.

    In a distributed run `compute` is a collective call: the counts of all ranks are added up (by torchmetrics).
    The loaders give every image to one rank alone, so none counts twice.

    Args:
        class_names: one per label; `IGNORED_LABEL` in the truth does not count.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        self._confusion = MulticlassConfusionMatrix(
            len(self.class_names),
            ignore_index=IGNORED_LABEL,
            validate_args=False,
            distributed_available_fn=works_together,
        )
        self._per_class: dict[str, float] = {}

    def reset(self) -> None:
        """Forget all counts and figures."""
        self._confusion.reset()
        self._per_class = {}

    def update(self, predictions: list[Tensor], batch: SegmentationBatch) -> None:
        """Take in the labels of one batch.

        Args:
            predictions: (H'_i, W'_i) uint8 of every image, of its labels' size inside the padding.
            batch: for `labels`.

        Raises:
            ConfigError: a label, found or true, is of no class: network, label map and files do not fit together.
        """
        found = torch.cat([labels.flatten() for labels in predictions])
        truth = torch.cat(
            [
                labels[: prediction.shape[0], : prediction.shape[1]].flatten()
                for labels, prediction in zip(batch.labels, predictions, strict=True)
            ]
        )
        self._check(found, truth)
        self._confusion.to(found.device).update(found, truth)

    def compute(self) -> dict[str, float]:
        """Score everything since `reset`.

        Returns:
            mIoU and pixel_accuracy, in [0, 1]; NaN where no pixel is labelled.
        """
        confusion = self._confusion.compute().cpu().double()
        hits, true, found = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
        occurs = true > 0
        ious = (hits / (true + found - hits))[occurs]
        names = [name for name, there in zip(self.class_names, occurs.tolist(), strict=True) if there]
        self._per_class = dict(zip(names, ious.tolist(), strict=True))
        return {"mIoU": float(ious.mean()), "pixel_accuracy": float(hits.sum() / true.sum())}

    def per_class(self) -> dict[str, float]:
        """IoU by class name, as of the last `compute`; only classes that occur in the truth."""
        return self._per_class

    def class_scores(self) -> dict[str, float]:
        """`per_class` by `IoU/<class name>`."""
        return {f"IoU/{name}": value for name, value in self._per_class.items()}

    def _check(self, found: Tensor, truth: Tensor) -> None:
        """Refuse labels without a class: the count would fail, or put them to another class."""
        known = truth.masked_fill(truth == IGNORED_LABEL, 0)
        highest_found, highest_true = torch.stack([found.max(), known.max()]).tolist()
        if highest_found >= len(self.class_names):
            raise ConfigError(
                f"num_classes: the network found label {highest_found}, but the data set has only "
                f"{len(self.class_names)} classes"
            )
        if highest_true >= len(self.class_names):
            raise ConfigError(
                f"num_classes: a pixel has label {highest_true}, but the data set has only "
                f"{len(self.class_names)} classes; mend its label map"
            )
