"""Weight files as data: nothing in them is ever executed."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fna_lightning.errors import CheckpointError, brief

# Around tensors: keys of files, modules that wrap a network, and the parts of ours. Where some names begin with
# one, the others are left out; the first that comes anywhere is taken off first.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "network")
_BACKBONE = "backbone"
# Averages of the weights over training, beside these or alone.
_AVERAGES = frozenset(
    {
        "state_dict_ema",
        "ema_state_dict",
        "model_ema",
        "ema_model",
        "model_state_ema",
        "ema_state",
        "ema",
        "ema_params",
        "averaged",
        "averaged_model",
        "model_averaged",
    }
)
_SHADOWS = "shadow_params"
_LIGHTNINGS = "current_model_state"  # the weights, where Lightning's averaging has put the average in their place
# What compilation, sharding and checkpointing of activations put in, anywhere in a name.
_PASSED_OVER = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_TORCHS = (b"PK\3\4", b"\x80")  # a zip archive, or a pickle as before
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"Rar!")
_PACKED = "is an archive of other files; unpack it and give the one with the weights"
_AT_ONCE = 1 << 20  # bytes
_DEEPEST = 5  # mappings in mappings; a file may hold one in itself

State = dict[str, Tensor]


class Weights(NamedTuple):
    """The tensors of a file without the wrappers around their names."""

    plain: State
    """As training left them."""
    averaged: State
    """Their average over training (EMA), where there is one."""
    unnamed: str = ""
    """Key of an average that is a list, which does not say which tensor is which; empty where there is none."""


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a file of safetensors' or torch's, safely; by its content, whatever it is called.

    Returns:
        The file's mapping; for safetensors `state_dict` with the tensors and the file's metadata beside it.

    Raises:
        CheckpointError: where the file is missing, broken, or holds anything but plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    start = _start(path)
    if damaged := _damaged(path):
        raise CheckpointError(f"{path}: is damaged ({damaged}); restore the file")
    try:
        if _is_safetensors(path, start):
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return {**metadata, "state_dict": load_file(path)}
        # By its name alone, torch would take it for safetensors'; what it warns of is refused here.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not start.startswith(_TORCHS):
            raise CheckpointError(
                f"{path}: is a file of neither torch's nor safetensors' kind; save the state_dict by one of them"
            ) from error
        raise CheckpointError(
            f"{path}: holds objects other than tensors and plain data, which are never executed here; "
            "save its state_dict alone and give that file"
        ) from error
    except Exception as error:  # Broken files make the readers raise almost anything.
        reason = brief(error)
        if "TorchScript" in reason:
            raise CheckpointError(f"{path}: is a TorchScript archive; save its state_dict() instead") from error
        if "not in a subdirectory" in reason:
            raise CheckpointError(f"{path}: {_PACKED}") from error
        raise CheckpointError(f"{path}: is no readable weight file ({reason}); is it whole?") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a mapping of names to tensors")
    return dict(content)


def _damaged(path: Path) -> str | None:
    """What is wrong with a record of a zip archive, where its bytes are not those that were written.

    Torch does not look. It can be told to write records without a checksum, which pass.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.CRC and record.compress_type == zipfile.ZIP_STORED:
                    with archive.open(record) as file:
                        while file.read(_AT_ONCE):
                            pass
    except Exception as error:  # Broken files make the reader raise almost anything.
        return str(error)
    return None


def _start(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        CheckpointError: where it cannot be read, or something else stands in its place.
    """
    try:
        with path.open("rb") as file:
            start = file.read(80)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); give yourself the right to") from error
    if not start:
        raise CheckpointError(f"{path}: is empty; restore the file")
    if start.startswith(_COMPRESSED):
        raise CheckpointError(f"{path}: {_PACKED}")
    if start.startswith((b"version https://git-lfs", b"<")):
        raise CheckpointError(
            f"{path}: is a pointer or a web page in place of the weights; download them, as by git lfs pull"
        )
    return start


def _is_safetensors(path: Path, start: bytes) -> bool:
    """By the length of the header, and the header, which is JSON; by its name only where nothing else shows."""
    if start.startswith(_TORCHS):
        return False
    named = path.suffix.lower() == ".safetensors"
    return named or (start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size)


def weights_of(content: Mapping[str, Any]) -> Weights:
    """The tensors of a file read by `read_file`, without `state_dict`, `module.`, `backbone.` and the like.

    Where the names carry `backbone.`, only the backbone's tensors are kept; and so with every wrapper.
    """
    plain, averaged, unnamed = _sorted(content)
    wrappers = (*_WRAPPERS, _BACKBONE)
    return Weights(_unwrapped(plain, wrappers), _unwrapped(averaged, wrappers), unnamed)


def network_tensors_of(content: Mapping[str, Any], path: str | Path) -> State:
    """The plain tensors of a whole network, the names of its backbone's with `backbone.`.

    Raises:
        CheckpointError: where there are none.
    """
    state = _unwrapped(_sorted(content).plain, _WRAPPERS)
    if not state:
        raise CheckpointError(f"{path}: holds no tensors by name")
    whole = any(name.startswith(f"{_BACKBONE}.") for name in state)
    return state if whole else {f"{_BACKBONE}.{name}": tensor for name, tensor in state.items()}


def require_finite(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Require that every number of the tensors of the file `path` is one.

    Raises:
        CheckpointError: naming the first tensor with NaN or infinite values, or with a negative variance.
    """
    for name, tensor in state.items():
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            raise CheckpointError(f"{path}: the tensor {name} holds no plain numbers; save it dense, in float32")
        values = tensor.float() if tensor.is_floating_point() else tensor
        odd = values.numel() - int(torch.isfinite(values).sum())
        if odd:
            what = f"holds {odd} NaN or infinite value(s) of {values.numel()}"
        elif name.endswith("running_var") and bool((values.real < 0).any()):
            what = "holds negative variances"
        else:
            continue
        raise CheckpointError(f"{path}: the tensor {name} {what}; give weights from before training went wrong")


def _flat(content: Mapping[Any, Any], deepest: int) -> Iterator[tuple[str, Tensor]]:
    """All tensors in mappings, their keys joined by dots."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield str(key), value.detach()
        elif isinstance(value, Mapping) and deepest:
            yield from ((f"{key}.{name}", tensor) for name, tensor in _flat(value, deepest - 1))


def _sorted(content: Mapping[str, Any]) -> Weights:
    """The tensors of a file, averages apart, their names still wrapped."""
    weights = Weights({}, {}, next(_lists(content, _DEEPEST), ""))
    if "n_averaged" in content:  # torch's AveragedModel, saved alone
        content = {"averaged": content}
    if _LIGHTNINGS in content:
        content = {"ema": content.get("state_dict"), "state_dict": content[_LIGHTNINGS]}
    for name, tensor in _flat(content, _DEEPEST):
        parts = [part for part in name.split(".") if part not in _PASSED_OVER]
        wrappers = takewhile({*_AVERAGES, *_WRAPPERS, _BACKBONE}.__contains__, parts)
        marks = [place for place, part in enumerate(wrappers) if part in _AVERAGES]
        state = weights.averaged if marks else weights.plain
        state[".".join(parts[marks[-1] + 1 :] if marks else parts)] = tensor
    return weights


def _lists(content: Mapping[Any, Any], deepest: int, inside: bool = False) -> Iterator[str]:
    """Keys of averages that are lists of tensors, as torch_ema keeps them; `inside` of one already."""
    for key, value in content.items():
        average = inside or key in _AVERAGES or key == _SHADOWS
        if isinstance(value, Mapping) and deepest:
            yield from (f"{key}.{name}" for name in _lists(value, deepest - 1, average))
        elif average and isinstance(value, (list, tuple)) and any(isinstance(item, Tensor) for item in value):
            yield str(key)


def _unwrapped(state: State, wrappers: Sequence[str]) -> State:
    while True:
        for wrapper in wrappers:
            prefix = f"{wrapper}."
            inner = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
            if inner:
                state = inner
                break
        else:
            return state
