"""From a trained network to a checked file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch._dynamo.exc import UserError as ExportError
from torch._export.serde.serialize import SerializeError
from torch.export import Dim, ExportedProgram

from fna_lightning.complaints import causes
from fna_lightning.deployment.export import onnx_file, program_file, weights_file
from fna_lightning.deployment.export.checking import Comparison, compare
from fna_lightning.deployment.export.contents import contents
from fna_lightning.deployment.export.examples import (
    Dynamic,
    Example,
    Extent,
    batches,
    example_of,
    fitted,
    pictures_of,
)
from fna_lightning.deployment.export.graphs import Graph, Part, graph_of
from fna_lightning.deployment.export.suppression import suppress_apart
from fna_lightning.deployment.network import Network
from fna_lightning.errors import ConfigError, UserError, brief
from fna_lightning.files import replacing

Format = Literal["onnx", "torch_export", "safetensors"]
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "torch_export": ".pt2", "safetensors": ".safetensors"}
_AXES = {"images": {0: "batch", 2: "height", 3: "width"}, "sizes": {0: "batch"}}
Runner = Callable[[dict[str, Tensor]], list[Tensor]]
_MOST = 65536  # pictures in a batch; symbolic shapes want an end


@dataclass(frozen=True)
class Request:
    """What is to be exported, and how.

    Raises:
        ConfigError: naming the settings that cannot be together.
    """

    format: Format
    part: Part | None = None
    """None for the whole network, of safetensors the backbone."""
    dynamic: Dynamic | None = None
    """None for the batch, and for the size too where pictures are seen in different ones."""
    batch: int = 1
    """Pictures at once, where that does not vary."""
    size: Sequence[int] | None = None
    """Height and width in pixels, where they do not vary; None for what holds all that are checked."""
    images: Sequence[str] | None = None
    """Pictures to check on; None for those of the validation set."""
    limit: int = 4
    """How many of them."""

    @property
    def chosen_part(self) -> Part:
        """The part that is exported."""
        return self.part or ("backbone" if self.format == "safetensors" else "network")

    def __post_init__(self) -> None:
        if self.format == "safetensors" and self.part not in (None, "backbone"):
            raise ConfigError(
                f"part={self.part}: format=safetensors carries parameters and no graph; give part=backbone, for "
                "which a class of Python comes along, or format=onnx or torch_export"
            )
        if self.size is not None and (len(self.size) != 2 or self.dynamic in ("size", "all")):
            raise ConfigError(f"size={list(self.size)}: give [height, width], and dynamic=none or batch")
        if self.batch != 1 and self.dynamic in ("batch", "all"):
            raise ConfigError(f"batch={self.batch}: dynamic={self.dynamic} takes any number; leave one out")


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with the network."""

    paths: tuple[Path, ...]
    comparisons: tuple[Comparison, ...]


class MismatchError(UserError):
    """A file that computes something else than the network does; it was not kept."""

    def __init__(self, path: Path, comparisons: Sequence[Comparison]) -> None:
        wrong = sum(not each.holds for each in comparisons)
        super().__init__(
            f"{path}: computes something else than the network on {wrong} of {len(comparisons)} batches, "
            "and was not written; report it with the versions of torch and onnxruntime"
        )
        self.comparisons = tuple(comparisons)


def export(network: Network, request: Request, path: Path) -> Exported:
    """Write a file that was run on pictures, and gave what the network gives.

    Args:
        network: on the CPU.
        request: what is wanted.
        path: of the file; safetensors have one of Python beside it.

    Raises:
        MismatchError: it gave something else.
        UserError: the format cannot carry this, a package is missing, or there are no pictures.
    """
    if path.suffix != ENDINGS[request.format]:
        raise ConfigError(f"output={path}: a file of format={request.format} ends in {ENDINGS[request.format]}")
    if request.format == "onnx":
        onnx_file.require_packages()
    part = request.chosen_part
    graph = graph_of(network.module, part, onnx_file.suppress if request.format == "onnx" else suppress_apart)
    pictures = pictures_of(network, request.images, request.limit)
    together = example_of(network, pictures)
    extent = _extent(network, request, together)
    with replacing(path) as temporary:
        if request.format == "safetensors":
            weights_file.write(network, temporary)
        else:
            described = contents(network, part, graph, extent, together.images)
            _write_graph(graph.eval(), request.format, extent, together, described, temporary)
        run = _runner(request.format, graph, temporary)
        comparisons = [
            compare(graph, each, _run(run, each, graph, request.format))
            for each in batches(network, pictures, extent)
        ]
        if not all(each.holds for each in comparisons):
            raise MismatchError(path, comparisons)
    if request.format != "safetensors":
        return Exported((path,), tuple(comparisons))
    weights_file.write_class(path.with_suffix(".py"))
    return Exported((path, path.with_suffix(".py")), tuple(comparisons))


def _extent(network: Network, request: Request, together: Example) -> Extent:
    """How many pictures of which size the file takes; safetensors any."""
    dynamic = request.dynamic
    if request.format == "safetensors":
        dynamic = "all"
    elif dynamic is None:
        # What brings all pictures to one size is called so, by detectors and segmenters.
        settings = network.picture_settings
        fixed = any(given is not None for given in (request.size, settings.get("size"), settings.get("resize")))
        dynamic = "batch" if fixed else "all"
    height, width = request.size or together.images.shape[-2:]
    batch = None if dynamic in ("batch", "all") else request.batch
    return Extent(batch, None if dynamic in ("size", "all") else (height, width))


def _write_graph(
    graph: Graph[Any], form: Format, extent: Extent, together: Example, described: dict[str, Any], path: Path
) -> None:
    """Trace a graph and write it.

    Raises:
        ConfigError: the format cannot carry it.
    """
    axes = _axes(graph, extent)
    try:
        program = _trace(graph, axes, fitted(together, extent))
        if form == "onnx":
            onnx_file.write(program, graph, axes, described, path)
        else:
            program_file.write(program, described, path)
    except (ExportError, SerializeError, torch.onnx.OnnxExporterError) as error:
        vary = " and ".join(dict.fromkeys(name for each in axes.values() for name in each.values()))
        mend = f"with {vary} that vary; give dynamic=batch or none" if vary else "; give another format or part"
        raise ConfigError(f"format={form}: cannot carry this graph {mend} ({brief(_reason(error))})") from error


def _axes(graph: Graph[Any], extent: Extent) -> dict[str, dict[int, str]]:
    """Names of the dimensions that vary, by input."""
    varying = [*(["batch"] if extent.batch is None else []), *(["height", "width"] if extent.size is None else [])]
    axes = {name: {place: axis for place, axis in _AXES[name].items() if axis in varying} for name in graph.inputs}
    return {name: places for name, places in axes.items() if places}


def _trace(graph: Graph[Any], axes: dict[str, dict[int, str]], example: Example) -> ExportedProgram:
    batch = Dim("batch", min=1, max=_MOST)
    shapes = tuple(
        {place: batch if axis == "batch" else Dim.DYNAMIC for place, axis in axes.get(name, {}).items()}
        for name in graph.inputs
    )
    if any("batch" in places.values() for places in axes.values()):
        # A number of which one picture tells nothing: torch would take it for fixed.
        example = fitted(example, Extent(2, None))
    with torch.no_grad():
        return torch.export.export(graph, tuple(example.inputs(graph.inputs).values()), dynamic_shapes=shapes)


def _runner(form: Format, graph: Graph[Any], path: Path) -> Runner:
    if form == "onnx":
        return onnx_file.runner(path)
    return program_file.runner(path, graph.inputs) if form == "torch_export" else weights_file.runner(path)


def _run(run: Runner, example: Example, graph: Graph[Any], form: Format) -> list[Tensor]:
    """What the file gives for some pictures.

    Raises:
        ConfigError: it cannot be run on them.
    """
    try:
        return run(example.inputs(graph.inputs))
    except Exception as error:  # of whatever kind the runtime has
        height, width = example.images.shape[-2:]
        raise ConfigError(
            f"format={form}: what was exported cannot be run on {len(example.images)} of {height}x{width} (height "
            f"x width), {example.name}: {brief(error)}; give another format, or less that is dynamic"
        ) from error


def _reason(error: BaseException) -> str:
    """The last cause, whose text is the shortest of what the libraries say."""
    return str(causes(error)[-1])
