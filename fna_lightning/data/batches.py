"""What a data module yields: one typed batch per task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

_Batch = TypeVar("_Batch", bound="Batch")

IGNORED_LABEL = 255
"""What pixels are labelled with that neither train nor score (Cityscapes)."""


@dataclass
class Batch:
    """Base of all batches; the fields are tensors, lists of tensors, or texts that stay where they are."""

    images: Tensor
    """(N, 3, H, W) uint8, RGB, on [0, 255]; normalisation belongs to the network."""
    files: list[str] = field(default_factory=list, kw_only=True)
    """N paths, in the images' order; empty where a batch comes from no files."""

    def __len__(self) -> int:
        return self.images.shape[0]

    def pin_memory(self: _Batch) -> _Batch:
        """Called by `torch.utils.data.DataLoader` when it pins memory."""

        def pin(value: Any) -> Any:
            if isinstance(value, list):
                return [pin(item) for item in value]
            return value.pin_memory() if isinstance(value, Tensor) else value

        pinned = {field.name: pin(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return type(self)(**pinned)


@dataclass
class ClassificationBatch(Batch):
    """Images of one size and one label each."""

    labels: Tensor
    """(N,) int64 in [0, num_classes)."""


@dataclass
class DetectionBatch(Batch):
    """Images padded at the right and bottom to one size, with boxes in pixels of these images."""

    boxes: list[Tensor]
    """N tensors (M_i, 4) float32: x1, y1, x2, y2; M_i may be 0."""
    labels: list[Tensor]
    """N tensors (M_i,) int64 in [0, num_classes)."""
    sizes: Tensor
    """(N, 2) int64: height and width of the picture inside the padding."""
    original_sizes: Tensor
    """(N, 2) int64: height and width of the file, to which predictions are scaled back."""
    image_ids: Tensor
    """(N,) int64: the data set's own image ids."""

    @property
    def scales(self) -> Tensor:
        """(N, 4) float32: by what x1, y1, x2, y2 in these images are multiplied to be in pixels of the files."""
        return (self.original_sizes / self.sizes).flip(1).repeat(1, 2)

    @staticmethod
    def empty_boxes() -> tuple[Tensor, Tensor]:
        """Boxes and labels of an image without annotation."""
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)


@dataclass
class SegmentationBatch(Batch):
    """Images with a label for every pixel, each padded at the right and bottom to one size."""

    labels: Tensor
    """(N, H', W') uint8 in [0, num_classes), or `IGNORED_LABEL`.

    In training they have the images' size, in validation that of the files."""
    sizes: Tensor
    """(N, 2) int64: height and width of the picture inside the padding of `images`."""
    label_sizes: Tensor
    """(N, 2) int64: height and width inside the padding of `labels`."""


def padded(pictures: Sequence[Tensor], colour: int | Sequence[int], multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Put pictures into one tensor.

    Args:
        pictures: N tensors (..., H_i, W_i), one at least.
        colour: what they are padded with at the right and bottom, a number for each channel if they have such.
        multiple: of this both sides become one.

    Returns:
        (N, ..., H, W), and the sizes (N, 2) int64 inside the padding: height and width.
    """
    sizes = torch.tensor([picture.shape[-2:] for picture in pictures])
    height, width = (-(-side // multiple) * multiple for side in sizes.amax(dim=0).tolist())
    filler = torch.tensor(colour, dtype=pictures[0].dtype)[..., None, None]
    stacked = filler.expand(len(pictures), *pictures[0].shape[:-2], height, width).contiguous()
    for target, picture in zip(stacked, pictures, strict=True):
        target[..., : picture.shape[-2], : picture.shape[-1]] = picture
    return stacked, sizes
