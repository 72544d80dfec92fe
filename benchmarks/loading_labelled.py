"""Pictures of Cityscapes' size a second through the data loader, with FNA's augmentation for DeepLabV3.

    OMP_NUM_THREADS=1 python benchmarks/loading_labelled.py --images 48 --workers 2

Writes PNGs of 1024x2048 as large as Cityscapes' to a temporary folder, with label files, and loads them as
training does, from the file system's cache. The file to write the figures to is benchmarks/loading.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from loading import loader_rates, machine, seconds_of

from fna_lightning.data import CityscapesDataModule
from fna_lightning.data.checking.images import read_image, read_labels
from fna_lightning.data.label_maps import CITYSCAPES_IDS

HEIGHT, WIDTH = 1024, 2048
FILE_SIZE = 2_200_000
"""Bytes of a picture in leftImg8bit, on average: 11 GB of 5,000."""


def main() -> None:
    """Measure and print two tables in Markdown."""
    options = _options()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_set(root, options.images)
        sizes = [path.stat().st_size / 1e6 for path in root.rglob("*_leftImg8bit.png")]
        data = CityscapesDataModule(root, batch_size=4, num_workers=options.workers, check_images="none")
        data.setup("fit")
        rates, seconds = loader_rates(data, options.repeats)
        print(
            f"\n{machine()}; torch {torch.__version__}, OpenCV {cv2.__version__}; {options.images} PNGs of ",
            end="",
        )
        print(f"{WIDTH}x{HEIGHT}, {statistics.mean(sizes):.1f} MB on average; {options.workers} workers\n")
        print("| images/s | fewest to most | processor time of an image, all processes |\n|---|---|---|")
        print(
            f"| {statistics.median(rates):.1f} | {min(rates):.1f} to {max(rates):.1f} | {1000 * seconds:.0f} ms |"
        )
        print("\n| stage of one image, one process | ms |\n|---|---|")
        for name, taken in stages(data, options.repeats).items():
            print(f"| {name} | {1000 * taken:.1f} |")


def write_set(root: Path, count: int) -> None:
    """Write a set in Cityscapes' layout; its validation part is one picture."""
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 1)):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / split).mkdir(parents=True)
        for index in range(number):
            cv2.imwrite(str(root / "leftImg8bit" / split / f"{index}_leftImg8bit.png"), picture(rng))
            cv2.imwrite(str(root / "gtFine" / split / f"{index}_gtFine_labelIds.png"), labels(rng))


def picture(rng: np.random.Generator) -> np.ndarray:
    """Smooth patches under as much noise as makes a PNG of `FILE_SIZE`: (1024, 2048, 3) uint8."""
    patches = rng.integers(0, 256, (16, 32, 3)).astype(np.uint8)
    smooth = cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noise = rng.normal(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32)
    for deviation in (0.5, 0.7, 1.0, 1.4, 2.0, 2.8):
        noisy = (smooth + deviation * noise).clip(0, 255).astype(np.uint8)
        if len(cv2.imencode(".png", noisy)[1]) >= FILE_SIZE:
            return noisy
    raise RuntimeError(f"no PNG of {FILE_SIZE} bytes")


def labels(rng: np.random.Generator) -> np.ndarray:
    """Ids in patches with straight borders: (1024, 2048) uint8."""
    patches = rng.choice(np.array(CITYSCAPES_IDS, np.uint8), (32, 64))
    return cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


def stages(data: CityscapesDataModule, repeats: int) -> dict[str, float]:
    """Processor seconds of each stage of one image, in this process."""
    dataset = data.train_dataset
    assert dataset is not None
    every = range(min(8, len(dataset)))
    pairs = [
        (read_image(dataset.path(index)), dataset.label_map.to_labels(read_labels(dataset.label_path(index))))
        for index in every
    ]
    return {
        "picture read and decoded": seconds_of(lambda index: read_image(dataset.path(index)), every, repeats),
        "labels read and decoded": seconds_of(
            lambda index: read_labels(dataset.label_path(index)), every, repeats
        ),
        "scaled, cut out, flipped": seconds_of(lambda i: dataset.transform(*pairs[i], i), every, repeats),
        "**all**, in one go": seconds_of(lambda i: dataset[0, i], every, repeats),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48, help="files")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--repeats", type=int, default=3, help="timed passes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
