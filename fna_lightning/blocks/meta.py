"""Networks without numbers."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def on_meta(module: ModuleT) -> ModuleT:
    """A copy of `module` whose tensors have shapes but no storage; no memory is copied."""
    memo: dict[int, Any] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        shell = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(shell, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shell
    return copy.deepcopy(module, memo)
