"""Pictures as an exported network takes them, of which it is traced and on which it is checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from fna_lightning.data.augmentation.ssd import PAD_COLOUR
from fna_lightning.data.batches import padded
from fna_lightning.deployment.network import Network
from fna_lightning.deployment.pictures import pixels_of
from fna_lightning.deployment.sources import find_sources
from fna_lightning.errors import ConfigError, DataError

Dynamic = Literal["none", "batch", "size", "all"]


@dataclass(frozen=True)
class Extent:
    """How many pictures of which size a graph takes."""

    batch: int | None
    """Pictures; None for any number."""
    size: tuple[int, int] | None
    """Height and width; None for any."""


@dataclass(frozen=True, eq=False)
class Example:
    """Pictures in one batch."""

    name: str
    images: Tensor
    """(N, 3, H, W) uint8, RGB, padded at the right and bottom."""
    sizes: Tensor
    """(N, 2) int64: height and width inside the padding."""

    def inputs(self, names: Sequence[str]) -> dict[str, Tensor]:
        """What a graph with inputs of these names takes."""
        return {name: getattr(self, name) for name in names}


def pictures_of(network: Network, places: Sequence[str] | None, limit: int) -> list[Path]:
    """The first pictures of some places, or of the validation set that the network's run had.

    Raises:
        DataError: there are none.
    """
    if places is not None:
        found = [source.path for source in find_sources(places, Path()) if not source.is_video]
        if not found:
            raise DataError(f"images={','.join(places)}: holds videos alone; give pictures")
        return found[:limit]
    try:
        network.data.prepare_data()
        network.data.setup("validate")
    except DataError as error:
        raise DataError(f"{error}, or name pictures to check the export on by images=<folder>") from error
    dataset = network.data.val_dataset
    assert dataset is not None  # after setup
    return [dataset.path(index) for index in range(min(limit, len(dataset)))]


def example_of(network: Network, paths: Sequence[Path]) -> Example:
    """Pictures as the network sees them, in one batch; called as the first of them."""
    seen = [network.see(pixels_of(path)) for path in paths]
    batch = cast("Any", network.data).unlabelled([each.pixels for each in seen], [each.size for each in seen])
    return Example(paths[0].name, batch.images, batch.sizes)


def fitted(example: Example, extent: Extent) -> Example:
    """A batch of the number and size that a graph takes: padded, and its pictures repeated.

    Raises:
        ConfigError: a picture is larger.
    """
    images, sizes = example.images, example.sizes
    if extent.size is not None:
        height, width = images.shape[-2:]
        if height > extent.size[0] or width > extent.size[1]:
            raise ConfigError(
                f"size={list(extent.size)}: {example.name} is brought to {height}x{width} (height x width); "
                "give a size that holds it, or dynamic=size"
            )
        # The last picture is there for its size alone.
        images = padded([*images, images.new_zeros(3, *extent.size)], PAD_COLOUR)[0][:-1]
    if extent.batch is not None:
        order = torch.arange(extent.batch) % len(images)
        images, sizes = images[order], sizes[order]
    return Example(example.name, images, sizes)


def batches(network: Network, paths: Sequence[Path], extent: Extent) -> Iterator[Example]:
    """What a graph is checked on: every picture; all in one batch, and one turned in a larger, where it can."""
    singles = [example_of(network, [path]) for path in paths]
    for example in singles:
        yield fitted(example, extent)
    if extent.batch is None and len(paths) > 1:
        together = example_of(network, paths)
        yield fitted(Example(f"all {len(paths)} together", together.images, together.sizes), extent)
    if extent.size is None:
        turned = singles[0].images.transpose(2, 3)[0]
        # Square pictures have another size then too.
        blank = turned.new_zeros(3, turned.shape[1] + 64, turned.shape[2] + 128)
        images = padded([turned, blank], PAD_COLOUR)[0][:1]
        yield fitted(Example(f"{singles[0].name} on its side", images, singles[0].sizes.flip(1)), extent)
