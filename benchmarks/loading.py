"""Images a second through the data loader, and where the time of one image goes.

    OMP_NUM_THREADS=1 python benchmarks/loading.py --images 512 --size 320 --workers 2

Writes JPEGs of 640x480 with seven boxes each to a temporary folder, as large as COCO's on average, and loads them
as training does: read from the file system's cache, decoded, augmented, put into batches. The file to write the
figures to is benchmarks/loading.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from fna_lightning.data import CocoDataModule, DataModule
from fna_lightning.data.augmentation.ssd import PAD_COLOUR, SSDAugmentation
from fna_lightning.data.checking.images import read_image

HEIGHT, WIDTH = 480, 640
BOXES = 7
FILE_SIZE = 160_000
"""Bytes of a picture in COCO's train2017, on average."""
AUGMENTATIONS = {"flip": None, "ssd": SSDAugmentation()}


def main() -> None:
    """Measure and print two tables in Markdown."""
    options = _options()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kilobytes = write_set(root, options.images) / options.images / 1000
        print(f"\n{machine()}; torch {torch.__version__}, OpenCV {cv2.__version__}; ", end="")
        print(f"{options.images} JPEGs of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB on average, ", end="")
        print(f"to {options.size}x{options.size}; {options.workers} workers\n")
        print("| augmentation | images/s | fewest to most | processor time of an image, all processes |")
        print("|---|---|---|---|")
        for name in AUGMENTATIONS:
            rates, seconds = loader_rates(data_module(root, name, options), options.repeats)
            print(f"| {name} | {statistics.median(rates):.0f} | {min(rates):.0f} to {max(rates):.0f} ", end="")
            print(f"| {1000 * seconds:.2f} ms |")
        print("\n| stage of one image, one process | ms |\n|---|---|")
        for name, seconds in stages(data_module(root, "ssd", options), options.repeats).items():
            print(f"| {name} | {1000 * seconds:.2f} |")


def write_set(root: Path, count: int) -> int:
    """Write a set in COCO's layout; its validation part is one image.

    Returns:
        Bytes of all pictures.
    """
    rng = np.random.default_rng(0)
    images, annotations = [], []
    quality = _quality(picture(rng))
    (root / "images").mkdir()
    for index in range(count):
        image = {"id": index, "file_name": f"{index:06d}.jpg", "height": HEIGHT, "width": WIDTH}
        content = _jpeg(picture(rng), quality)
        (root / "images" / image["file_name"]).write_bytes(content)
        images.append(image)
        for _ in range(BOXES):
            width, height = rng.uniform(0.05, 0.5, 2) * (WIDTH, HEIGHT)
            corner = rng.uniform(0, 1, 2) * (WIDTH - width, HEIGHT - height)
            box = [*corner.tolist(), float(width), float(height)]
            annotations.append({"id": len(annotations), "image_id": index, "category_id": 1, "bbox": box})
    for name, part in (("train", images), ("val", images[:1])):
        ids = {image["id"] for image in part}
        boxes = [row for row in annotations if row["image_id"] in ids]
        content = {"images": part, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
        (root / f"{name}.json").write_text(json.dumps(content))
    return sum(file.stat().st_size for file in (root / "images").iterdir())


def picture(rng: np.random.Generator) -> np.ndarray:
    """Noise with the spectrum of photographs, whose amplitudes fall with the frequency: (480, 640, 3) uint8."""
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1
    waves = rng.normal(size=(4, *frequency.shape, 2)) @ [1, 1j] / frequency**1.3
    grey, *colours = (noise / noise.std() for noise in np.fft.irfft2(waves, s=(HEIGHT, WIDTH)))
    return np.stack([128 + 45 * grey + 15 * colour for colour in colours], axis=-1).clip(0, 255).astype(np.uint8)


def data_module(root: Path, augmentation: str, options: argparse.Namespace) -> CocoDataModule:
    """The set as training has it."""
    data = CocoDataModule(
        root,
        train_annotations="train.json",
        val_annotations="val.json",
        train_images="images",
        val_images="images",
        size=[options.size, options.size],
        augmentation=AUGMENTATIONS[augmentation],
        batch_size=options.batch,
        num_workers=options.workers,
        check_images="none",
    )
    data.setup("fit")
    return data


def loader_rates(data: DataModule[Any], repeats: int) -> tuple[list[float], float]:
    """Whole epochs through `train_dataloader`, after one that starts the workers.

    Returns:
        Images a second of each epoch, and processor seconds of an image over all processes.
    """
    before = sum(os.times()[:4])
    loader = data.train_dataloader()
    rates, total = [], 0
    for epoch in range(repeats + 1):
        loader.set_epoch(epoch)
        start = time.perf_counter()
        count = sum(len(batch) for batch in loader)
        rates.append(count / (time.perf_counter() - start))
        total += count
    data.teardown()  # the times of processes that have ended count
    return rates[1:], (sum(os.times()[:4]) - before) / total


def stages(data: CocoDataModule, repeats: int) -> dict[str, float]:
    """Processor seconds of each stage of one image, in this process."""
    dataset = data.train_dataset
    assert dataset is not None
    every = range(len(dataset))
    paths = [dataset.path(index) for index in every]
    images = [read_image(path) for path in paths]
    boxes = [corners(dataset.annotations.boxes[dataset.annotations.boxes_of(index)]) for index in every]
    samples = [dataset[0, index] for index in range(data.batch_size)]
    size = data.resize()(HEIGHT, WIDTH)
    torchvision = torchvision_pipeline(size)

    read = seconds_of(lambda index: np.fromfile(paths[index], np.uint8), every, repeats)
    decoded = seconds_of(lambda index: read_image(paths[index]), every, repeats)
    transformed = seconds_of(
        lambda index: dataset.transform(images[index], boxes[index], np.zeros(BOXES), index), every, repeats
    )
    parts = augmentation_stages(images, boxes, size, repeats)
    return {
        "file read": read,
        "decoded": decoded - read,
        **parts,
        "boxes, flip, and what the library adds": transformed - sum(parts.values()),
        "put into a batch": seconds_of(lambda _: dataset.collate(samples), range(4), repeats) / len(samples),
        "**all but the last**, in one go": seconds_of(lambda index: dataset[0, index], every, repeats),
        "for comparison, torchvision's transforms in place of ours": seconds_of(
            lambda index: torchvision(images[index], boxes[index]), every[:40], repeats
        ),
        "our transforms": transformed,
    }


def augmentation_stages(
    images: list[np.ndarray], boxes: list[np.ndarray], size: tuple[int, int], repeats: int
) -> dict[str, float]:
    """Processor seconds of the stages of SSD's augmentation alone."""
    augmentation, rng = SSDAugmentation(), np.random.default_rng(0)
    windows = [augmentation.draw_window((HEIGHT, WIDTH), rows, rng) for rows in boxes]
    views = [window.view(image, size) for window, image in zip(windows, images, strict=True)]
    colours = [augmentation.draw_colours(rng) for _ in images]

    def change_colours(index: int) -> None:
        part = windows[index].picture_in(views[index], images[index])
        if part.size:
            colours[index].apply(part)

    every = range(len(images))
    return {
        "expansion and crop drawn": seconds_of(
            lambda index: augmentation.draw_window((HEIGHT, WIDTH), boxes[index], rng), every, repeats
        ),
        "part of the picture resized": seconds_of(
            lambda index: windows[index].view(images[index], size), every, repeats
        ),
        "colours changed": seconds_of(change_colours, every, repeats),
    }


def seconds_of(run: Callable[[int], object], items: Sequence[int], repeats: int) -> float:
    """Processor seconds of `run` for one item: the median over rounds through all."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        for item in items:
            run(item)
        taken.append((time.process_time() - start) / len(items))
    return statistics.median(taken)


def corners(boxes: np.ndarray) -> np.ndarray:
    """Boxes (M, 4) with width and height as boxes with two corners."""
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def torchvision_pipeline(size: tuple[int, int]) -> Callable[[np.ndarray, np.ndarray], Any]:
    """The same augmentation by torchvision; its brightness, contrast and saturation are of another definition."""
    transform = v2.Compose(
        [
            v2.RandomPhotometricDistort(),
            v2.RandomZoomOut(fill=PAD_COLOUR),
            v2.RandomIoUCrop(),
            v2.SanitizeBoundingBoxes(labels_getter=None),
            v2.Resize(list(size), antialias=False),
            v2.RandomHorizontalFlip(),
        ]
    )

    def run(image: np.ndarray, boxes: np.ndarray) -> Any:
        picture = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1).contiguous())
        corners = torch.from_numpy(boxes)
        place = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(HEIGHT, WIDTH))  # pyright: ignore
        return transform(picture, place)

    return run


def _quality(image: np.ndarray) -> int:
    """The JPEG quality at which `image` comes nearest to `FILE_SIZE`."""
    return min(range(50, 100), key=lambda quality: abs(len(_jpeg(image, quality)) - FILE_SIZE))


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def machine() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="files")
    parser.add_argument("--size", type=int, default=320, help="side of what training gets")
    parser.add_argument("--batch", type=int, default=32, help="images a batch")
    parser.add_argument("--workers", type=int, default=2, help="loader processes")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
