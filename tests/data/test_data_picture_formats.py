"""Every kind of picture file against Pillow: the same pixels, a notice of what is not as it seems, or one line."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fna_lightning.data import CocoDataModule
from fna_lightning.data.check import examine
from fna_lightning.data.checking.checks import check_images
from fna_lightning.data.checking.headers import ImageError, parse_header
from fna_lightning.data.checking.images import EXTENSIONS, check_pixels, read_image
from fna_lightning.data.checking.problems import Kind, Problems
from fna_lightning.errors import DataError

Y, X = np.mgrid[0:40, 0:60]
COLOURS = np.stack([4 * X, 6 * Y, 2 * (X + Y)], axis=-1).astype(np.uint8)
RGB = Image.fromarray(COLOURS)
OTHER = Image.fromarray(255 - COLOURS)
RGBA = Image.fromarray(np.dstack([COLOURS, np.where(X < 30, 255, 90).astype(np.uint8)]))
BLACK_WHITE = Image.fromarray(((X // 4 + Y // 4) % 2 * 255).astype(np.uint8)).convert("1")
PALETTE = RGB.quantize(16)


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tagged(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def frames(picture, kind, **options):
    return saved(picture, kind, save_all=True, append_images=[OTHER.convert(picture.mode)], **options)


def with_palette(bits):
    picture = RGB.quantize(2**bits)
    return saved(picture, "PNG", bits=bits)


FILES = {
    **{f"turned {n}.tif": (saved(RGB, "TIFF", exif=tagged(n)), {Kind.TURNED_TIFF}) for n in range(2, 9)},
    **{f"turned {n}.webp": (saved(RGB, "WEBP", lossless=True, exif=tagged(n)), {Kind.ROTATED}) for n in (3, 6)},
    "not turned.tif": (saved(RGB, "TIFF", exif=tagged(1)), set()),
    "grey, turned.tif": (saved(RGB.convert("L"), "TIFF", exif=tagged(6)), {Kind.TURNED_TIFF, Kind.GRAYSCALE}),
    "animated.webp": (frames(RGB, "WEBP", lossless=True), {Kind.FRAMES}),
    "animated, transparent.webp": (frames(RGBA, "WEBP", lossless=True), {Kind.FRAMES, Kind.TRANSPARENT}),
    "lossy.webp": (saved(RGB, "WEBP"), set()),
    "still.gif": (saved(PALETTE, "GIF"), set()),
    "interlaced.gif": (saved(RGB.quantize(200), "GIF", interlace=1), set()),
    "animated.gif": (saved(PALETTE, "GIF", save_all=True, append_images=[OTHER.quantize(16)]), {Kind.FRAMES}),
    "transparent.gif": (saved(PALETTE, "GIF", transparency=PALETTE.getpixel((0, 0))), {Kind.TRANSPARENT}),
    "transparent, animated.gif": (
        saved(
            PALETTE,
            "GIF",
            transparency=PALETTE.getpixel((0, 0)),
            save_all=True,
            append_images=[OTHER.quantize(16)],
        ),
        {Kind.TRANSPARENT, Kind.FRAMES},
    ),
    "transparent nowhere.gif": (saved(PALETTE, "GIF", transparency=200), set()),
    "animated.png": (frames(RGB, "PNG"), {Kind.FRAMES}),
    "animated beside its picture.png": (
        saved(RGB, "PNG", save_all=True, append_images=[OTHER, RGB, OTHER], default_image=True),
        {Kind.FRAMES},
    ),
    "animated by nothing.png": (saved(RGB, "PNG", save_all=True, default_image=True), set()),
    "pages.tif": (frames(RGB, "TIFF"), {Kind.FRAMES}),
    "black and white.png": (saved(BLACK_WHITE, "PNG"), {Kind.GRAYSCALE}),
    "black and white.tif": (saved(BLACK_WHITE, "TIFF", compression="group4"), {Kind.GRAYSCALE}),
    "white is zero.tif": (saved(BLACK_WHITE, "TIFF", tiffinfo={262: 0}), {Kind.GRAYSCALE}),
    "black and white.bmp": (saved(BLACK_WHITE, "BMP"), {Kind.GRAYSCALE}),
    **{f"palette of {2**bits}.png": (with_palette(bits), set()) for bits in (1, 2, 4, 8)},
    "palette, one transparent.png": (
        saved(PALETTE, "PNG", transparency=PALETTE.getpixel((0, 0))),
        {Kind.TRANSPARENT},
    ),
    "palette, all transparent.png": (saved(PALETTE, "PNG", transparency=bytes([100] * 16)), {Kind.TRANSPARENT}),
    "one colour transparent.png": (saved(RGB, "PNG", transparency=(0, 0, 0)), {Kind.TRANSPARENT}),
    "palette.bmp": (saved(PALETTE, "BMP"), set()),
    "palette.tif": (saved(PALETTE, "TIFF"), set()),
    "grey and transparency.png": (saved(RGBA.convert("LA"), "PNG"), {Kind.GRAYSCALE, Kind.TRANSPARENT}),
    "transparent.tif": (saved(RGBA, "TIFF"), {Kind.TRANSPARENT}),
    "CMYK.tif": (saved(RGB.convert("CMYK"), "TIFF", compression="tiff_lzw"), {Kind.CMYK}),
    "packed.tif": (saved(RGB, "TIFF", compression="packbits"), set()),
    "strip.png": (saved(Image.new("RGB", (63, 3), (9, 99, 199)), "PNG"), {Kind.STRIP}),
    "hardly a strip.png": (saved(Image.new("RGB", (60, 3), (9, 99, 199)), "PNG"), set()),
}


def pillows(content):
    """RGB by Pillow, of the first frame, with the colours under transparency."""
    picture = Image.open(io.BytesIO(content))
    transparent = "A" in picture.getbands() or "transparency" in picture.info
    return np.asarray(picture.convert("RGBA"))[..., :3] if transparent else np.asarray(picture.convert("RGB"))


class Files:
    """A list of images."""

    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]


@pytest.fixture(scope="module")
def noticed(tmp_path_factory):
    """Folder of all files, and name -> kinds of what the check says of each."""
    folder = tmp_path_factory.mktemp("formats")
    for name, (content, _) in FILES.items():
        (folder / name).write_bytes(content)
    problems = Problems("list")
    assert check_images(Files(*(folder / name for name in FILES)), None, "all", problems).all()
    return folder, {name: {p.kind for p in problems if p.path.name == name} for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_pillows_and_what_is_odd_is_noticed(noticed, name):
    folder, kinds = noticed
    content, expected = FILES[name]
    np.testing.assert_array_equal(read_image(folder / name), pillows(content))
    assert kinds[name] == expected


def plain_tiff(pixels, packing=1, big_endian=False, **tags):
    """A TIFF of one strip by hand: what Pillow does not write."""
    mark, order = (">", b"MM") if big_endian else ("<", b"II")
    height, width, channels = pixels.shape
    colours = 2 if channels >= 3 else 1
    data = pixels.astype(pixels.dtype.newbyteorder(mark)).tobytes()
    entries = {
        256: width,
        257: height,
        258: 8 * pixels.itemsize,
        259: packing,
        262: colours,
        273: 0,
        277: channels,
    }
    entries |= {278: height, 279: len(data), **{int(tag[1:]): value for tag, value in tags.items()}}
    start = 8 + 2 + 12 * len(entries) + 4
    entries[273] = start + 2 * channels
    table = struct.pack(f"{mark}H", len(entries))
    for tag, value in sorted(entries.items()):
        count = channels if tag == 258 else 1
        table += struct.pack(f"{mark}HHI", tag, 4 if tag in (273, 279) else 3, count)
        if tag == 258 and channels > 2:
            table += struct.pack(f"{mark}I", start)
        elif tag in (273, 279):
            table += struct.pack(f"{mark}I", value)
        else:
            table += struct.pack(f"{mark}HH", value, value if tag == 258 else 0)
    return (
        order
        + struct.pack(f"{mark}HI", 42, 8)
        + table
        + bytes(4)
        + struct.pack(f"{mark}H", entries[258]) * channels
        + data
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("big_endian", [False, True])
def test_deep_tiffs_are_turned_likewise(tmp_path, orientation, channels, big_endian):
    """Pillow reads no TIFF of 16-bit colours; it turns their 8-bit values."""
    stored = COLOURS[..., :channels]
    content = plain_tiff(stored.astype(np.uint16) * 257, big_endian=big_endian, t274=orientation)
    (tmp_path / "deep.tif").write_bytes(content)
    picture = Image.fromarray(np.broadcast_to(stored, COLOURS.shape))
    picture.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(read_image(tmp_path / "deep.tif"), np.asarray(ImageOps.exif_transpose(picture)))
    assert parse_header(io.BytesIO(content)).orientation == orientation
    assert parse_header(io.BytesIO(content)).bits == 16


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparency_of_tiffs_leaves_colours_as_stored(tmp_path, extra, dtype):
    pixels = np.asarray(RGBA).astype(dtype) * (257 if dtype is np.uint16 else 1)
    (tmp_path / "t.tif").write_bytes(plain_tiff(pixels, t338=extra))
    np.testing.assert_array_equal(read_image(tmp_path / "t.tif"), COLOURS)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_of_sixteen_bits_beside_transparency_the_upper_eight_are_kept(tmp_path, mode):
    stored = np.asarray(RGBA.convert(mode)).astype(np.uint16) * 200 + 50
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in stored)
    head = struct.pack(">IIBBBBB", 60, 40, 16, 4 if mode == "LA" else 6, 0, 0, 0)

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    expected = np.broadcast_to(stored[..., :-1] >> 8, COLOURS.shape)
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), expected)


REFUSED = {
    "open.gif": (
        saved(PALETTE, "GIF")[:6] + struct.pack("<HH", 70, 50) + saved(PALETTE, "GIF")[10:],
        "is a GIF whose first frame leaves a part of it open",
    ),
    "lab.tif": (saved(RGB.convert("LAB"), "TIFF"), r"is a TIFF in a colour space \(number 8\)"),
    "zstd.tif": (plain_tiff(COLOURS, packing=50000), r"is a TIFF of a compression \(number 50000\)"),
    "unknown.tif": (plain_tiff(COLOURS, packing=191), r"is a TIFF of a compression \(number 191\)"),
    "floats.tif": (plain_tiff(COLOURS.astype(np.float32), t339=3), "is a TIFF of 32-bit floating-point numbers"),
    "halves.tif": (plain_tiff(COLOURS.astype(np.float16), t339=3), "is a TIFF of 16-bit floating-point numbers"),
    "heights.tif": (plain_tiff(COLOURS[..., :1].astype(np.float64), t339=3), "is a TIFF of 64-bit floating-point"),
    "twice.tif": (plain_tiff(COLOURS)[:22] + b"\0\1" + plain_tiff(COLOURS)[24:], "is a TIFF with a tag that"),
    "signed.tif": (plain_tiff(COLOURS.astype(np.int16), t339=2), "is a TIFF of 16-bit signed whole numbers"),
    "signed bytes.tif": (plain_tiff(COLOURS.astype(np.int8), t339=2), "is a TIFF of 8-bit signed whole numbers"),
    "void.tif": (plain_tiff(COLOURS, t339=4), "is a TIFF of 8-bit numbers of another kind"),
    "long.tif": (plain_tiff(COLOURS[..., :1].astype(np.uint32)), "is a TIFF of 32 bits per channel"),
    "bands.tif": (plain_tiff(np.dstack([COLOURS, COLOURS[..., :2]])), "is a TIFF of 5 channels"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("mode", ["headers", "all"])
def test_what_decoders_read_differently_is_refused(tmp_path, name, mode):
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    problems = Problems("list")
    assert not check_images(Files(tmp_path / name), None, mode, problems).any()
    (problem,) = problems
    assert re.match(words, problem.what)
    assert problem.kind is Kind.UNSUPPORTED
    assert problem.advice == "convert it to RGB of 8 bits per channel, as PNG"


@pytest.mark.parametrize("name", [name for name in REFUSED if name.endswith(".tif")])
def test_what_is_not_known_gives_no_black_picture(tmp_path, name):
    content, words = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: cannot be decoded: {words}.*; convert it to RGB of 8 bits"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_adobe_deflate"])
def test_damaged_pixels_of_a_tiff_are_found(tmp_path, packing):
    content = bytearray(saved(RGB, "TIFF", compression=packing))
    content[40:60] = bytes(range(200, 220))
    with pytest.raises(OSError, match="decoder error"):
        Image.open(io.BytesIO(content)).load()
    (tmp_path / "damaged.tif").write_bytes(content)
    problems = Problems("list")
    assert not check_images(Files(tmp_path / "damaged.tif"), None, "all", problems).any()
    (problem,) = problems
    assert problem.what.startswith("is broken")


def test_sizes_of_turned_tiffs_are_explained(tmp_path):
    (tmp_path / "turned.tif").write_bytes(FILES["turned 6.tif"][0])
    problems = Problems("list")
    check_images(Files(tmp_path / "turned.tif"), np.array([[40, 60]]), "headers", problems)
    (problem,) = problems
    assert problem.kind is Kind.WRONG_SIZE
    assert problem.what == (
        "is 40x60 (width x height), but the annotations say 60x40: they count it as stored, before its "
        "orientation tag 6 turns it"
    )


@given(
    name=st.sampled_from(sorted({*FILES, *REFUSED})),
    cut=st.floats(0, 1) | st.just(1.0),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4),
    early=st.booleans(),
)
@settings(max_examples=300)
def test_damaged_pictures_are_refused_or_read_as_pillow_reads_them(tmp_path_factory, name, cut, changes, early):
    content = bytearray((FILES | REFUSED)[name][0])
    for place, byte in changes:
        content[place % min(100 if early else len(content), len(content))] = byte
    content = bytes(content[: max(1, int(cut * len(content)))])
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        header = parse_header(io.BytesIO(content))
        check_pixels(content, header)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    image = read_image(path)
    assert image.shape == (*header.size, 3)
    if name.endswith(".bmp"):  # without checksums: other bits a pixel are another picture, rounded in another way
        return
    try:
        expected = pillows(content)
    except Exception:  # Pillow raises almost anything.
        return
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 2


def test_a_detection_set_with_a_strip_trains_and_is_noticed(coco):
    content = coco.read()
    row = content["images"][2]
    row.update(width=4000, height=1, file_name="strip.png")
    for annotation in content["annotations"]:
        if annotation["image_id"] == row["id"]:
            annotation["bbox"] = [1000, 0, 2000, 1]
    coco.write(content)
    assert cv2.imwrite(str(coco.root / "train2017" / "strip.png"), np.full((1, 4000, 3), 99, np.uint8))
    data = CocoDataModule(coco.root, short_side=64, long_side=96, batch_size=2, num_workers=0)
    seen = [problem for problem in examine(data).problems["training"] if problem.kind is not Kind.UNUSED]
    assert [(p.kind, p.path.name) for p in seen] == [(Kind.STRIP, "strip.png")]
    assert seen[0].what.startswith("is 4000x1 (width x height): a resize leaves little of its short side")
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert sum("strip.png" in file for batch in batches for file in batch.files) == 1
    assert all(torch.isfinite(boxes).all() for batch in batches for boxes in batch.boxes)
    assert any(size == [1, 96] for batch in batches for size in batch.sizes.tolist())


@pytest.mark.parametrize("suffix", sorted(EXTENSIONS))
def test_what_is_taken_from_a_folder_is_read(tmp_path, suffix):
    picture = Image.new("L" if suffix == ".pgm" else "RGB", (60, 40), 99)
    picture.save(tmp_path / f"picture{suffix}")
    image = read_image(tmp_path / f"picture{suffix}")
    np.testing.assert_array_equal(image, pillows((tmp_path / f"picture{suffix}").read_bytes()))
