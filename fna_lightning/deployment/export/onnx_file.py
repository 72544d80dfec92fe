"""Graphs as ONNX files, and as ONNX Runtime runs them."""

from __future__ import annotations

import builtins
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fna_lightning.deployment.export.contents import as_texts
from fna_lightning.deployment.export.graphs import Graph
from fna_lightning.deployment.export.suppression import suppress_apart
from fna_lightning.errors import ConfigError

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def require_packages() -> None:
    """Import what ONNX needs.

    Raises:
        ConfigError: a package is missing.
    """
    for name in _NEEDED:
        _package(name)


@torch.library.custom_op("fna_lightning::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, number: int, iou: float) -> Tensor:
    """See `Suppress`; an operator of its own, because ONNX has one that knows groups."""
    return suppress_apart(boxes, scores, groups, number, iou)


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, number: int, iou: float) -> Tensor:
    del boxes, scores, number, iou
    return groups.new_empty(torch.library.get_ctx().new_dynamic_size())


def write(
    program: ExportedProgram,
    graph: Graph[Any],
    axes: dict[str, dict[int, str]],
    described: dict[str, Any],
    path: Path,
) -> None:
    """Write what was traced of a graph.

    Args:
        program: the trace.
        graph: of which it is.
        axes: of inputs by name: the names of dimensions that may vary.
        described: see `contents.contents`; each value is written as JSON under its name in `metadata_props`.
        path: of the file.

    Raises:
        ConfigError: ONNX cannot say what the graph computes.
    """
    named = {name: axes.get(name, {}) for name in graph.inputs}
    options: dict[str, Any] = {"dynamic_shapes": named} if axes else {}
    exported = torch.onnx.export(
        program, (), None, dynamo=True, verbose=False, custom_translation_table=_translations(),
        input_names=list(graph.inputs), output_names=list(graph.outputs), **options,
    )  # fmt: skip
    assert exported is not None
    exported.model.metadata_props.update(as_texts(described))
    exported.save(path)


def runner(path: Path) -> Callable[[dict[str, Tensor]], list[Tensor]]:
    """What ONNX Runtime computes on the CPU, of inputs by their names."""
    runtime = _package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors; shapes that it guesses are no concern of users
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        return list(
            map(torch.from_numpy, session.run(None, {name: each.numpy() for name, each in inputs.items()}))
        )

    return run


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Operators that torch does not translate."""
    op = _package("onnxscript").opset18

    def suppressed(boxes: Any, scores: Any, groups: Any, number: Any, iou: float) -> Any:
        every = op.Range(op.Constant(value_int=0), number, op.Constant(value_int=1))
        own = op.Equal(op.Unsqueeze(every, [1]), op.Unsqueeze(groups, [0]))
        apart = op.Where(own, op.Unsqueeze(scores, [0]), op.Constant(value_float=-1.0))
        most, least = op.Size(scores), op.Constant(value_float=-0.5)
        chosen = op.NonMaxSuppression(op.Unsqueeze(boxes, [0]), op.Unsqueeze(apart, [0]), most, iou, least)
        return op.Gather(chosen, op.Constant(value_int=2), axis=1)

    def rounded(number: Any, ndigits: None = None) -> Any:
        del ndigits
        return op.Cast(op.Round(number), to=7)  # int64; both round halves to even numbers

    def copied(target: Any, source: Any, non_blocking: bool = False) -> Any:
        del non_blocking
        return op.Expand(source, op.Shape(target))  # which torch's own translation leaves out

    return {
        torch.ops.fna_lightning.suppress.default: suppressed,
        torch.ops.aten.copy.default: copied,
        builtins.round: rounded,
    }


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"format=onnx: needs {name}, which comes with the extra `export`: pip install 'fna_lightning[export]'"
        ) from error
