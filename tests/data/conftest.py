"""Small sets in the true layouts, made anew for every test that may break them."""

import io

import cv2
import numpy as np
import pytest
from coco_trees import CocoSet
from PIL import Image
from voc_trees import Year


@pytest.fixture
def coco(tmp_path):
    return CocoSet(tmp_path / "coco")


@pytest.fixture
def folders(tmp_path):
    """A classification set of three classes, 4 training and 2 validation images each."""
    rng = np.random.default_rng(0)
    root = tmp_path / "folders"
    for split, count in (("train", 4), ("val", 2)):
        for name in ("ant", "bee", "cat"):
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                cv2.imwrite(str(root / split / name / f"{k}.jpg"), rng.integers(0, 256, (40, 50 + k, 3), np.uint8))
    return root


def encoded(picture: Image.Image, kind: str, **settings) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


@pytest.fixture(scope="session")
def pictures():
    """Name -> content of a file of 60x40 (width x height); every kind of picture that a set may hold."""
    y, x = np.mgrid[0:40, 0:60]
    colours = np.stack([4 * x, 6 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    picture = Image.fromarray(colours)
    turned = Image.Exif()
    turned[0x0112] = 6
    jpeg = encoded(picture, "JPEG", quality=90)
    frame = jpeg.index(b"\xff\xc0")  # length, precision, height, width, components
    half = np.where(x < 30, 255, 90).astype(np.uint8)
    palette = picture.quantize(16)
    return {
        "good.jpg": jpeg,
        "good.png": encoded(picture, "PNG"),
        "good.bmp": encoded(picture, "BMP"),
        "palette.png": encoded(palette, "PNG"),
        "opaque.png": encoded(Image.fromarray(np.dstack([colours, half | 255])), "PNG"),
        "turned.jpg": encoded(picture, "JPEG", quality=90, exif=turned),
        "turned.png": encoded(picture, "PNG", exif=turned),
        "grey.jpg": encoded(picture.convert("L"), "JPEG"),
        "grey.png": encoded(picture.convert("L"), "PNG"),
        "grey.bmp": encoded(picture.convert("L"), "BMP"),
        "cmyk.jpg": encoded(picture.convert("CMYK"), "JPEG", quality=95, subsampling=0),
        "deep.png": cv2.imencode(".png", colours.astype(np.uint16) * 200)[1].tobytes(),
        "deep.tif": cv2.imencode(".tif", colours.astype(np.uint16) * 200)[1].tobytes(),
        "transparent.png": encoded(Image.fromarray(np.dstack([colours, half])), "PNG"),
        "transparent.webp": encoded(Image.fromarray(np.dstack([colours, half])), "WEBP", lossless=True),
        "grey_transparent.png": encoded(Image.fromarray(np.dstack([colours, half])).convert("LA"), "PNG"),
        "palette_transparent.png": encoded(palette, "PNG", transparency=palette.getpixel((0, 0))),
        "twelve_bits.jpg": jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :],
        "empty.jpg": b"",
        "text.png": b"<html>not found</html>",
        "truncated.jpg": jpeg[:-300],
        "truncated.png": encoded(picture, "PNG")[:-20],
        "torn.jpg": jpeg[:-300] + b"\xff\xd9",  # whole by its header, but not its pixels
        "padded.jpg": jpeg[:-2] + bytes(40) + b"\xff\xd9",
    }


@pytest.fixture
def voc(tmp_path):
    """Both years; (VOCdevkit, 2007, 2012)."""
    root = tmp_path / "VOCdevkit"
    first, second = Year(root / "VOC2007"), Year(root / "VOC2012")
    first.add("000005", [("dog", (1, 1, 64, 48), False), ("person", (10, 20, 30, 40), True)])
    first.add("000007", [("car", (5, 6, 7, 8), False)])
    first.add("000009", [("car", (11, 12, 33, 40), False), ("dog", (2, 3, 30, 20), True)])
    second.add("2008_000002", [("tvmonitor", (4.7, 5, 20.2, 30), False)], "png")
    second.add("2008_000003", [("person", (1, 1, 20, 20), False), ("person", (30, 10, 60, 40), False)])
    first.list("trainval", ["000007", "000005"])
    first.list("test", ["000009"])
    second.list("trainval", ["2008_000002", "2008_000003"])
    return root, first, second
