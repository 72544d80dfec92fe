"""What headers say and what reading makes of every kind of picture, against Pillow."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fna_lightning.data.checking.headers import ImageError, ImageHeader, parse_header
from fna_lightning.data.checking.images import check_pixels, read_header, read_image
from fna_lightning.data.checking.problems import Kind
from fna_lightning.errors import DataError

HEADERS = {
    "good.jpg": {"lossy": True},
    "good.png": {},
    "good.bmp": {},
    "palette.png": {},
    "opaque.png": {"alpha": True},
    "turned.jpg": {"orientation": 6, "lossy": True},
    "turned.png": {"orientation": 6},
    "grey.jpg": {"channels": 1, "lossy": True},
    "grey.png": {"channels": 1},
    "grey.bmp": {"channels": 1},
    "cmyk.jpg": {"channels": 4, "lossy": True},
    "deep.png": {"bits": 16},
    "deep.tif": {"bits": 16},
    "transparent.png": {"alpha": True},
    "transparent.webp": {"alpha": True},
    "grey_transparent.png": {"channels": 1, "alpha": True},
    "palette_transparent.png": {"alpha": True},
    "twelve_bits.jpg": {"bits": 12, "lossy": True},
}
TRANSPARENT = {"transparent.png", "transparent.webp", "grey_transparent.png", "palette_transparent.png"}


def opened(content):
    return Image.open(io.BytesIO(content))


@pytest.mark.parametrize("name", HEADERS)
def test_headers(pictures, tmp_path, name):
    (tmp_path / name).write_bytes(pictures[name])
    header = read_header(tmp_path / name)
    assert header == ImageHeader(**{"size": (40, 60), "channels": 3, **HEADERS[name]})
    if name != "twelve_bits.jpg":
        assert check_pixels(pictures[name], header) == (name in TRANSPARENT)
    if name not in {"deep.tif", "twelve_bits.jpg"}:  # which Pillow does not read
        assert opened(pictures[name]).size == header.size[::-1]
        assert opened(pictures[name]).getexif().get(0x0112, 1) == header.orientation


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("empty.jpg", Kind.EMPTY, "is empty"),
        ("text.png", Kind.CORRUPT, r"is no image or is broken \(22 bytes\)"),
        ("truncated.jpg", Kind.TRUNCATED, "is truncated: the JPEG has no end"),
        ("truncated.png", Kind.TRUNCATED, "is truncated: the PNG has no end"),
        ("gone.jpg", Kind.MISSING, "is missing"),
    ],
)
def test_broken_headers(pictures, tmp_path, name, kind, words):
    if name in pictures:
        (tmp_path / name).write_bytes(pictures[name])
    with pytest.raises(ImageError, match=words) as caught:
        read_header(tmp_path / name)
    assert caught.value.kind is kind


@pytest.mark.parametrize("name", ["good.jpg", "turned.png", "grey.jpg", "cmyk.jpg"])
def test_headers_cut_anywhere_are_refused_or_whole(pictures, name):
    whole = parse_header(io.BytesIO(pictures[name]))
    for length in range(0, len(pictures[name]), 7):
        with pytest.raises(ImageError):
            parse_header(io.BytesIO(pictures[name][:length]))
    assert whole.size == (40, 60)


@given(st.integers(0, 255), st.booleans(), st.lists(st.sampled_from([0x010E, 0x010F, 0x0131]), unique=True))
def test_orientation_tags_of_any_layout(value, little, others):
    """Tags of both byte orders, with others beside them; numbers that mean nothing count as none."""
    mark = "<" if little else ">"
    tags = sorted([*others, 0x0112])
    entries = b"".join(struct.pack(f"{mark}HHIHH", tag, 3, 1, value if tag == 0x0112 else 9, 0) for tag in tags)
    block = (b"II" if little else b"MM") + struct.pack(f"{mark}HIH", 42, 8, len(tags)) + entries + bytes(4)
    picture = Image.new("RGB", (5, 3))
    for kind in ("JPEG", "PNG"):
        file = io.BytesIO()
        picture.save(file, kind, exif=b"Exif\0\0" + block)
        expected = opened(file.getvalue()).getexif()[0x0112]
        assert expected == value
        assert parse_header(io.BytesIO(file.getvalue())).orientation == (value if 1 <= value <= 8 else 1)


@given(st.binary(max_size=40))
def test_broken_tags_are_none(block):
    file = io.BytesIO()
    Image.new("RGB", (5, 3)).save(file, "JPEG", exif=b"Exif\0\0" + block)
    assert 1 <= parse_header(io.BytesIO(file.getvalue())).orientation <= 8


def expected_pixels(content, name):
    """RGB by Pillow, which does to a picture what the notices say."""
    picture = opened(content)
    if name in TRANSPARENT:
        return np.asarray(picture.convert("RGBA"))[..., :3]
    return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    "name", [name for name in HEADERS if name not in {"deep.png", "deep.tif", "twelve_bits.jpg"}]
)
def test_what_is_read(pictures, tmp_path, name):
    (tmp_path / name).write_bytes(pictures[name])
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    expected = expected_pixels(pictures[name], name)
    difference = np.abs(image.astype(int) - expected)
    # CMYK is computed by hand in both libraries; colours of other JPEGs are decoded alike to a step.
    assert difference.max() <= (2 if name.endswith("jpg") else 0)
    if name.startswith("grey"):
        assert (image == image[..., :1]).all()


def test_of_sixteen_bits_the_upper_eight_are_kept(pictures, tmp_path):
    y, x = np.mgrid[0:40, 0:60]
    stored = np.stack([4 * x, 6 * y, 2 * (x + y)], axis=-1).astype(np.uint8).astype(np.uint16) * 200
    for name in ("deep.png", "deep.tif"):
        (tmp_path / name).write_bytes(pictures[name])
        image = read_image(tmp_path / name)[..., ::-1]  # written with blue first
        # TIFF is rounded to the nearest, PNG downwards.
        assert np.abs(image.astype(int) - stored / 257).max() <= (1 if name.endswith("png") else 0.5)
    assert (read_image(tmp_path / "deep.png")[..., ::-1] == stored >> 8).all()


def test_twelve_bits_are_not_decoded(pictures, tmp_path):
    (tmp_path / "twelve_bits.jpg").write_bytes(pictures["twelve_bits.jpg"])
    with pytest.raises(DataError, match=r"twelve_bits.jpg: cannot be decoded"):
        read_image(tmp_path / "twelve_bits.jpg")


def test_more_pixels_than_can_be_decoded(pictures, tmp_path):
    content = bytearray(pictures["good.bmp"])
    content[18:26] = struct.pack("<ii", 60000, 60000)
    (tmp_path / "huge.bmp").write_bytes(content)
    with pytest.raises(DataError, match=r"huge.bmp: cannot be decoded"):
        read_image(tmp_path / "huge.bmp")
    with pytest.raises(ImageError, match="is no image or is broken"):
        read_header(tmp_path / "huge.bmp")


def test_a_header_that_lies(pictures):
    other = ImageHeader((41, 60), 3)
    with pytest.raises(ImageError, match="not of the size in its header"):
        check_pixels(pictures["good.jpg"], other)
    with pytest.raises(ImageError, match="is broken"):
        check_pixels(b"nothing", other)
