"""Semantic segmentation: a label for every pixel, from any `Segmenter`, scored by the mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fna_lightning.data.batches import IGNORED_LABEL, SegmentationBatch
from fna_lightning.distributed import mean_over_ranks, num_ranks
from fna_lightning.segmenters import Inference, Segmenter, resize_logits
from fna_lightning.tasks.base import Task
from fna_lightning.tasks.segmentation_metric import SegmentationMetric


class SegmentationData(Protocol):
    """What the metric needs of a data module."""

    @property
    def class_names(self) -> Sequence[str]:
        """What the labels 0, 1, 2... stand for."""
        ...


class SegmentationTask(Task[SegmentationBatch]):
    """Cross entropy per pixel, labels of every pixel at the files' size, mean IoU (spec FNA 6.3).

    Args:
        window: see `Inference`; None for whole images.
        stride: see `Inference`.
        window_batch: see `Inference`.
        scales: see `Inference`.
        flip: see `Inference`.

    Raises:
        ConfigError: see `Inference`.
    """

    kind = "segmentation"
    monitor = "mIoU"

    def __init__(
        self,
        window: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        window_batch: int = 4,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
    ) -> None:
        self.inference = Inference(window, stride, window_batch, scales, flip)

    def losses(self, network: Segmenter, batch: SegmentationBatch) -> dict[str, Tensor]:
        """The mean cross entropy of the pixels that are labelled, as "segmentation"; 0 where none is.

        Under several processes the sum is divided by the mean of their labelled pixels, so that the averaged
        gradients are those of one process with all the images; a collective call then.
        """
        # Interpolation and softmax in float32 also under mixed precision.
        logits = resize_logits(network(batch.images).float(), batch.labels.shape[-2:])
        # The sum is taken apart: torch's own is neither deterministic nor as exact over some 10^7 terms.
        entropy = F.cross_entropy(logits, batch.labels.long(), ignore_index=IGNORED_LABEL, reduction="none")
        labelled = mean_over_ranks((batch.labels != IGNORED_LABEL).sum())
        # One pixel on one rank is the least mean that is not 0.
        return {"segmentation": entropy.sum() / labelled.clamp(min=1 / num_ranks())}

    @torch.no_grad()
    def predict(self, network: Segmenter, batch: SegmentationBatch) -> list[Tensor]:
        """Labels (H'_i, W'_i) uint8 of every image, at the size of its file.

        Padding is never looked at: images of different sizes are computed one by one.
        """
        sizes: list[list[int]] = torch.cat([batch.sizes, batch.label_sizes], dim=1).tolist()
        if all(size[:2] == list(batch.images.shape[-2:]) for size in sizes):
            probabilities = self.inference.probabilities(network, batch.images).split(1)
        else:
            probabilities = (
                self.inference.probabilities(network, image[None, :, : size[0], : size[1]])
                for image, size in zip(batch.images, sizes, strict=True)
            )
        return [_labels(scores, size[2:]) for scores, size in zip(probabilities, sizes, strict=True)]

    def metric(self, data: SegmentationData) -> SegmentationMetric:
        """A fresh metric for the classes of `data`."""
        return SegmentationMetric(data.class_names)


def _labels(probabilities: Tensor, size: Sequence[int]) -> Tensor:
    """The most probable labels (H', W') of one image's (1, C, H, W), resized to `size` before the choice."""
    if probabilities.shape[-2:] != tuple(size):
        probabilities = resize_logits(probabilities, size)
    return probabilities[0].argmax(dim=0).to(torch.uint8)
