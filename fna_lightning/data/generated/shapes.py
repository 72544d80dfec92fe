"""Generated shapes on noisy ground: sets for detection, segmentation and classification that need no download.

They are written once, in the true COCO, Cityscapes and ImageFolder layouts, and are a function of their settings
alone. All draw the same shapes, colours and textures, so that what is learned on one helps on the other.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fna_lightning.data.generated.drawing import SHAPES, VOID, draw_labels, draw_scene, draw_single
from fna_lightning.data.layouts.cityscapes import CityscapesDataModule
from fna_lightning.data.layouts.coco import CocoDataModule
from fna_lightning.data.layouts.folder import FolderDataModule
from fna_lightning.errors import ConfigError, DataError

Array = np.ndarray

RECORD = "shapes.json"
"""The file in a generated folder that holds its settings."""

_VERSION = 1  # of the drawing: other pictures need another number
_JPEG_QUALITY = 92
_TRAIN, _VAL = 0, 1


class ShapesDetectionDataModule(CocoDataModule):
    """Up to five shapes per image, to be found.

    Args:
        root: Folder to generate; where it holds a set of other settings, one beside it is taken, see `home`.
        num_train: Training images.
        num_val: Validation images.
        image_size: Side of the square files, in pixels.
        classes: Number of shapes to tell apart, 3 to 5.
        generation_seed: Decides the pictures.
        size: Height and width to resize to; null for the files' own.
        **settings: Whatever else `CocoDataModule` takes.
    """

    def __init__(
        self,
        root: str | Path,
        num_train: int = 600,
        num_val: int = 120,
        image_size: int = 128,
        classes: int = 4,
        generation_seed: int = 0,
        size: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        self.generation = _settings("detection", num_train, num_val, image_size, classes, generation_seed)
        super().__init__(home(Path(root), self.generation), size=size or [image_size, image_size], **settings)

    def prepare_data(self) -> None:
        """Generate the set, unless it is there."""
        generate(self.root, self.generation, _write_coco)


class ShapesSegmentationDataModule(CityscapesDataModule):
    """Up to five shapes per image, to be told from the ground and from each other, pixel by pixel.

    Args:
        root: Folder to generate; where it holds a set of other settings, one beside it is taken, see `home`.
        num_train: Training images.
        num_val: Validation images.
        image_size: Side of the square files, in pixels.
        classes: Number of shapes to tell apart, 3 to 5; the ground is one more class.
        generation_seed: Decides the pictures.
        crop: Height and width of the part that training cuts out; null for the files' own.
        **settings: Whatever else `CityscapesDataModule` takes.
    """

    def __init__(
        self,
        root: str | Path,
        num_train: int = 400,
        num_val: int = 120,
        image_size: int = 128,
        classes: int = 4,
        generation_seed: int = 0,
        crop: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        self.generation = _settings("segmentation", num_train, num_val, image_size, classes, generation_seed)
        ids = {name: label_id for label_id, name in enumerate(("ground", *SHAPES[:classes]))}
        super().__init__(
            home(Path(root), self.generation), ids, [VOID], crop=crop or [image_size, image_size], **settings
        )

    def prepare_data(self) -> None:
        """Generate the set, unless it is there."""
        generate(self.root, self.generation, _write_cityscapes)


class ShapesClassificationDataModule(FolderDataModule):
    """One shape per image, to be named.

    Args:
        root: Folder to generate; where it holds a set of other settings, one beside it is taken, see `home`.
        num_train: Training images.
        num_val: Validation images.
        image_size: Side of the square files, in pixels.
        classes: Number of shapes to tell apart, 3 to 5.
        generation_seed: Decides the pictures.
        size: Side of the images given to the network; null for the files' own.
        min_scale: Smallest share of an image that training cuts out.
        **settings: Whatever else `FolderDataModule` takes.
    """

    def __init__(
        self,
        root: str | Path,
        num_train: int = 2000,
        num_val: int = 400,
        image_size: int = 64,
        classes: int = 4,
        generation_seed: int = 0,
        size: int | None = None,
        min_scale: float = 0.8,
        **settings: Any,
    ) -> None:
        size = size or image_size
        self.generation = _settings("classification", num_train, num_val, image_size, classes, generation_seed)
        root = home(Path(root), self.generation)
        super().__init__(root, size=size, min_scale=min_scale, **{"resize": size, **settings})

    def prepare_data(self) -> None:
        """Generate the set, unless it is there."""
        generate(self.root, self.generation, _write_folders)


def home(root: Path, settings: dict[str, Any]) -> Path:
    """Where a generated set lies: `root`, or a folder beside it if another set was generated there.

    Args:
        root: As given.
        settings: Of the generated set.

    Returns:
        `root`, or `<root>-<layout>-<num_train>-<num_val>-<image_size>-<classes>-<seed>`.
    """
    if _recorded(root) in (None, settings):
        return root
    numbers = [settings[key] for key in ("num_train", "num_val", "image_size")]
    numbers += [len(settings["classes"]), settings["seed"]]
    return root.with_name("-".join([root.name, settings["layout"], *map(str, numbers)]))


def generate(root: Path, settings: dict[str, Any], write: Callable[[Path, dict[str, Any]], None]) -> None:
    """Write a set to `root`, whole or not at all; do nothing if it is there.

    Args:
        root: Where it shall be, as `home` gives it.
        settings: Recorded in the set, and compared with the record of the one that is there.
        write: Writes the set into an empty folder.

    Raises:
        DataError: `root` holds something else; it is left as it is.
    """
    if _is_there(root, settings):
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = root.with_name(f".{root.name}-{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        write(temporary, settings)
        (temporary / RECORD).write_text(json.dumps(settings, indent=2) + "\n")
        temporary.rename(root)
    except OSError:
        if not _is_there(root, settings):  # unless another process was faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_there(root: Path, settings: dict[str, Any]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    found = _recorded(root)
    if found == settings:
        return True
    what = (
        "something else than generated shapes" if found is None else "shapes that another run generated just now"
    )
    raise DataError(f"{root}: holds {what}; set data.root to a new folder")


def _recorded(root: Path) -> dict[str, Any] | None:
    """The settings of the set that was generated in `root`; None if there is none."""
    try:
        return json.loads((root / RECORD).read_text())
    except (OSError, ValueError):
        return None


def _settings(
    layout: str, num_train: int, num_val: int, image_size: int, classes: int, generation_seed: int
) -> dict[str, Any]:
    if not 3 <= classes <= len(SHAPES):
        raise ConfigError(f"data.classes={classes} must lie between 3 and {len(SHAPES)}")
    if min(num_train, num_val) < 1 or image_size < 32:
        raise ConfigError(
            f"data.num_train={num_train} and data.num_val={num_val} must be positive, "
            f"data.image_size={image_size} at least 32"
        )
    return {
        "layout": layout,
        "version": _VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "image_size": image_size,
        "classes": list(SHAPES[:classes]),
        "seed": generation_seed,
    }


def _write_coco(folder: Path, settings: dict[str, Any]) -> None:
    (folder / "annotations").mkdir()
    for split, name, count in (
        (_TRAIN, "train2017", settings["num_train"]),
        (_VAL, "val2017", settings["num_val"]),
    ):
        (folder / name).mkdir()
        images, annotations = [], []
        for index in range(count):
            rng = np.random.default_rng([settings["seed"], split, index])
            picture, objects = draw_scene(rng, settings["image_size"], len(settings["classes"]))
            image = {"id": index + 1, "file_name": f"{index + 1:012d}.jpg"}
            images.append({**image, "width": picture.shape[1], "height": picture.shape[0]})
            _write_image(folder / name / image["file_name"], picture)
            for label, points in objects:
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image["id"], **_annotation(label, points)}
                )
        categories = [{"id": i, "name": shape} for i, shape in enumerate(settings["classes"], start=1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))


def _annotation(label: int, points: Array) -> dict[str, Any]:
    points = points.round(2)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return {
        "category_id": label + 1,
        "bbox": [round(float(value), 2) for value in (left, top, right - left, bottom - top)],
        "area": round(float(cv2.contourArea(points.astype(np.float32))), 2),
        "segmentation": [points.ravel().tolist()],
        "iscrowd": 0,
    }


def _write_folders(folder: Path, settings: dict[str, Any]) -> None:
    classes = settings["classes"]
    for split, name, count in ((_TRAIN, "train", settings["num_train"]), (_VAL, "val", settings["num_val"])):
        for shape in classes:
            (folder / name / shape).mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([settings["seed"], split, index])
            label = index % len(classes)
            picture = draw_single(rng, settings["image_size"], label)
            _write_image(folder / name / classes[label] / f"{index:06d}.jpg", picture)


def _write_cityscapes(folder: Path, settings: dict[str, Any]) -> None:
    for split, name, count in ((_TRAIN, "train", settings["num_train"]), (_VAL, "val", settings["num_val"])):
        pictures, labels = (folder / kind / name / "shapes" for kind in ("leftImg8bit", "gtFine"))
        pictures.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([settings["seed"], split, index])
            picture, objects = draw_scene(rng, settings["image_size"], len(settings["classes"]))
            _write_image(pictures / f"shapes_{index:06d}_leftImg8bit.png", picture)
            drawn = draw_labels(settings["image_size"], objects)
            _write_image(labels / f"shapes_{index:06d}_gtFine_labelIds.png", drawn)


def _write_image(file: Path, picture: Array) -> None:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if file.suffix == ".jpg" else []
    _, content = cv2.imencode(file.suffix, picture, settings)
    file.write_bytes(content.tobytes())
