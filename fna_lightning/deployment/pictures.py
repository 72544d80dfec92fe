"""Pictures as callers have them: arrays, PIL images and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from fna_lightning.data.checking.images import read_image
from fna_lightning.errors import DataError

PictureLike: TypeAlias = np.ndarray | Image.Image | str | os.PathLike[str]
"""(H, W, 3) uint8 RGB array, PIL image, or path of a file."""

_PILS = frozenset({"1", "CMYK", "HSV", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"})
"""PIL's modes of 8 bits."""


def pixels_of(picture: PictureLike) -> np.ndarray:
    """A picture as an array (H, W, 3) uint8, RGB; files are read as those of data sets are, see `read_image`.

    Raises:
        DataError: the file cannot be read, or the object is none of these.
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
            raise DataError(
                f"picture: an array {picture.shape} of {picture.dtype}; give (height, width, 3) of uint8, RGB"
            )
        return picture
    if isinstance(picture, Image.Image):
        if picture.mode not in _PILS:
            raise DataError(f"picture: an image of PIL's mode {picture.mode}; give one of 8 bits, such as RGB")
        return np.asarray(picture.convert("RGB"))
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(picture), "restore it")
    raise DataError(f"picture: a {type(picture).__name__}; give an array, a PIL image or the path of a file")
