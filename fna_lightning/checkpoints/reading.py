"""Weight files as data: nothing in them is ever executed."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fna_lightning.errors import CheckpointError

_WRAPPERS = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "network.")
_BACKBONE = "backbone."


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a `.safetensors`, `.pth`, `.pt` or `.ckpt` file, safely.

    Returns:
        The file's mapping; for safetensors `state_dict` with the tensors and the file's metadata beside it.

    Raises:
        CheckpointError: where the file is missing, broken, or holds anything but plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return {**metadata, "state_dict": load_file(path)}
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds objects other than tensors and plain data, which are never executed here; "
            "save its state_dict alone and give that file"
        ) from error
    except Exception as error:  # Broken files make the readers raise almost anything.
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: is no readable weight file ({reason}); is it whole?") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a mapping of names to tensors")
    return dict(content)


def tensors_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file read by `read_file`, without wrapper and without `module.`, `backbone.` and the like.

    Where the names carry `backbone.`, only the backbone's tensors are kept.

    Raises:
        CheckpointError: where there are none.
    """
    state = _unwrapped(content, path)
    of_backbone = {key.removeprefix(_BACKBONE): value for key, value in state.items() if key.startswith(_BACKBONE)}
    return of_backbone or state


def network_tensors_of(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The same for the whole network, the names of its backbone's tensors with `backbone.`.

    Raises:
        CheckpointError: where there are none.
    """
    state = _unwrapped(content, path)
    whole = any(key.startswith(_BACKBONE) for key in state)
    return state if whole else {f"{_BACKBONE}{key}": value for key, value in state.items()}


def _unwrapped(content: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        stripped = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        state = stripped or state
    if not state:
        raise CheckpointError(f"{path}: holds no tensors by name")
    return state
