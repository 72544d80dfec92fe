import functools
import gzip
import io
import pickle
import re
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fna_lightning.checkpoints import checkpoint_of, load_seed, read_file, weights_of
from fna_lightning.errors import CheckpointError

# Damaged bytes give all kinds of protocol numbers.
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")

SUFFIXES = [".safetensors", ".pth", ".pt", ".ckpt"]


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def write_zip(content, path):
    torch.save(content, path)


def write_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def write_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("write", [write_zip, write_legacy, write_pickle])
@pytest.mark.parametrize("place", ["alone", "among tensors", "beside the state"])
def test_nothing_in_a_file_is_ever_run(tmp_path, suffix, write, place):
    hostile = Hostile(tmp_path / "marker")
    content = {
        "alone": hostile,
        "among tensors": {"features.0.0.weight": torch.zeros(2), "features.0.1.weight": hostile},
        "beside the state": {"state_dict": {"features.0.0.weight": torch.zeros(2)}, "meta": hostile},
    }[place]
    path = tmp_path / f"hostile{suffix}"
    write(content, path)
    for read in (read_file, load_seed):
        with pytest.raises(CheckpointError, match="hostile") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert not hostile.marker.exists()
    # The file is hostile indeed: an ordinary unpickling runs it.
    if write is write_pickle:
        pickle.loads(path.read_bytes())
        assert hostile.marker.exists()


@pytest.fixture(params=SUFFIXES)
def whole(request, tmp_path):
    path = tmp_path / f"weights{request.param}"
    state = {f"stages.{i}.conv.weight": torch.randn(8, 8, 3, 3) for i in range(4)}
    save_file(state, path) if request.param == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("form", ["zip", "legacy", ".safetensors"])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.pt", "last.CKPT", "weights"])
def test_files_are_read_by_their_content(tmp_path, form, name):
    (tmp_path / name).write_bytes(whole_bytes(form))
    assert set(weights_of(read_file(tmp_path / name)).plain) == {"stages.0.conv.weight"}


def test_whole_files_are_read(whole):
    assert set(weights_of(read_file(whole)).plain) == {f"stages.{i}.conv.weight" for i in range(4)}


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_named(whole, share):
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=re.escape(str(whole))) as caught:
        read_file(whole)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"no weights\n", b"<!DOCTYPE html><html>", b"\x80", b"\x80\x02.", b"PK\x03\x04"]
)
def test_other_files_are_named(whole, content):
    whole.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(str(whole))):
        read_file(whole)


@functools.cache
def whole_bytes(form):
    """A whole file, made once: torch's older form holds memory addresses, which change from save to save."""
    state = {"stages.0.conv.weight": torch.zeros(3)}
    if form == ".safetensors":
        return safetensors.torch.save(state)
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


@given(
    form=st.sampled_from(["zip", "legacy", ".safetensors"]),
    suffix=st.sampled_from([".pth", ".ckpt"]),
    damage=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4),
)
@settings(max_examples=100)
def test_damaged_files_are_read_or_refused(tmp_path_factory, form, suffix, damage):
    path = tmp_path_factory.mktemp("damaged") / f"weights{form if form == '.safetensors' else suffix}"
    content = bytearray(whole_bytes(form))
    for position, byte in damage:
        content[position % len(content)] = byte
    path.write_bytes(content)
    try:
        assert isinstance(read_file(path), dict)
    except CheckpointError as error:
        assert path.name in str(error)  # noqa: PT017


@given(content=st.binary(max_size=60), suffix=st.sampled_from(SUFFIXES))
@settings(max_examples=100)
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"weights{suffix}"
    path.write_bytes(content)
    try:
        assert isinstance(read_file(path), dict)
    except CheckpointError as error:
        assert path.name in str(error)  # noqa: PT017


def other_files():
    """Content -> what is said of it."""
    net, buffer, archive = torch.jit.script(torch.nn.Linear(2, 2)), io.BytesIO(), io.BytesIO()
    torch.jit.save(net, buffer)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("weights.pth", whole_bytes("zip"))
    return {
        b"": "is empty; restore",
        b"\x89HDF\r\n\x1a\n" + bytes(50): "is a file of neither torch's nor safetensors' kind; save",
        b"\x08\x07\x12\x07pytorch": "is a file of neither torch's nor safetensors' kind; save",
        gzip.compress(whole_bytes("zip")): "is an archive of other files; unpack it",
        archive.getvalue(): "is an archive of other files; unpack it",
        buffer.getvalue(): r"is a TorchScript archive; save its state_dict\(\)",
    }


def test_files_of_other_kinds_are_named_as_such(tmp_path):
    path = tmp_path / "weights.pth"
    for content, words in other_files().items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"weights.pth: {words}") as caught:
            read_file(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], 3, "text"])
def test_files_that_hold_no_names(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth.*not a mapping"):
        read_file(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_files_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match=r"empty\.pth.*no tensors"):
        load_seed(tmp_path / "empty.pth")


@pytest.mark.parametrize(
    "name", ["missing.pth", "missing.safetensors", "no/such/run", "mobilenet_v3", "nul\0byte"]
)
def test_missing_files_are_named(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"missing|such|mobilenet_v3|nul"):
        load_seed(tmp_path / name)


def test_directories_without_checkpoints(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=f"{re.escape(str(tmp_path))}: holds no checkpoints"):
        checkpoint_of(tmp_path)
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        load_seed(tmp_path)


def test_tensors_are_stripped_of_every_prefix():
    tensor = torch.zeros(1)
    content = {"state_dict": {"module.backbone.a": tensor, "module.neck.b": tensor, "step": 3}, "a": tensor}
    assert weights_of(content).plain == {"a": tensor}


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_bit_that_flipped_in_a_tensor_is_found(tmp_path_factory, place, bit):
    path = tmp_path_factory.getbasetemp() / "flipped.pth"
    torch.save({"weight": torch.arange(5000.0)}, path)
    content = bytearray(path.read_bytes())
    first = content.index(torch.arange(5000.0).numpy().tobytes())
    content[first + int(place * 20000)] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"flipped\.pth: is damaged \(.*data/0'\); restore the file"):
        read_file(path)


def test_files_without_checksums_are_read(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"weight": torch.arange(3.0)}, tmp_path / "plain.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(read_file(tmp_path / "plain.pth")["weight"], torch.arange(3.0))
