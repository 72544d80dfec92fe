"""The command that writes a trained network as a file that other programs run.

`python -m fna_lightning.export --help` says how it is used.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from fna_lightning.errors import UserError
from fna_lightning.exit_codes import INTERRUPTED, USER_ERROR
from fna_lightning.runs.command import Command

if TYPE_CHECKING:  # which load torch; --help does without
    from fna_lightning.deployment.export import Comparison, Exported

EXIT_MISMATCH = 1
"""Exit code where the file computed something else than the network."""

_DESCRIPTION = """\
Writes a trained detector or segmenter, or its backbone alone, as a file that other programs run:

    onnx          for ONNX Runtime, TensorRT, OpenVINO and others
    torch_export  for torch without this package, torch.export.load and AOTInductor
    safetensors   a backbone's parameters, and a class of Python beside them that needs torch alone

Pictures go in as they are decoded, uint8 and RGB, in the size that the network sees; it normalises them itself.
Class names, sizes and normalisation are inside the file. Each file is run on pictures beside the network, and kept
only where both give the same."""
_EPILOG = """\
settings, from {file}:
{settings}

examples:
  {command} checkpoint=outputs/train/<run> format=onnx
  {command} checkpoint=outputs/train/<run> format=onnx part=raw dynamic=none size=[480,640] batch=8
  {command} checkpoint=outputs/train/<run> format=torch_export images=cells output=cells.pt2
  {command} checkpoint=outputs/train/<run> format=safetensors

exit codes:
  0  the file is written, and computes what the network does
  1  it computed something else, and was not kept
  2  the command line is wrong, or the format cannot carry what is wanted"""
_COMMAND = Command("export", "checkpoint=<run> format=<onnx, torch_export or safetensors>", _DESCRIPTION, _EPILOG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export as a command line says.

    Args:
        arguments: The command line without the program; None for this process's own.

    Returns:
        The exit code.
    """
    overrides = _COMMAND.read(arguments)
    console = Console(highlight=False)
    try:
        return run(_COMMAND.settings(overrides), console)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_COMMAND.complaint(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED


def run(config: DictConfig, console: Console) -> int:
    """Export, and print how the file compares with the network.

    Args:
        config: checked settings.
        console: where it is told.

    Returns:
        The exit code.

    Raises:
        UserError: the network or the pictures are not there, or the format cannot carry what is wanted.
    """
    from fna_lightning.deployment import load
    from fna_lightning.deployment.export import ENDINGS, MismatchError, Request, export

    images = [config.images] if isinstance(config.images, str) else config.images
    keys = ("format", "part", "dynamic", "batch", "size", "limit")
    request = Request(images=images, **{key: config[key] for key in keys})
    network = load(config.checkpoint)
    folder = network.checkpoint.parent.parent / "export"
    path = Path(config.output or folder / f"{request.chosen_part}{ENDINGS[request.format]}")
    try:
        with warnings.catch_warnings():
            # What exporters say of themselves; the check tells what counts.
            warnings.simplefilter("ignore")
            logging.getLogger("onnx_ir").setLevel(logging.ERROR)
            exported = export(network, request, path)
    except MismatchError as error:
        _show(error.comparisons, console)
        print(f"error: {error}", file=sys.stderr)
        return EXIT_MISMATCH
    _show(exported.comparisons, console)
    _tell(exported, console)
    return 0


def _show(comparisons: Sequence[Comparison], console: Console) -> None:
    """A line for every batch of pictures."""
    width = max(len(each.name) for each in comparisons)
    for each in comparisons:
        size = "{}x{}".format(*each.size)
        alone = f", {each.alone} of one alone" if each.alone else ""
        verdict = "" if each.holds else "  DIFFERS"
        line = (
            f"{each.name:{width}}  {size}  {each.what}, largest difference {each.difference:.1e}{alone}{verdict}"
        )
        console.print(line, soft_wrap=True, markup=False)


def _tell(exported: Exported, console: Console) -> None:
    from fna_lightning.deployment.export import TOLERANCE

    for path in exported.paths:
        console.print(f"{path}  {path.stat().st_size / 1e6:.1f} MB", soft_wrap=True, markup=False)
    console.print(f"computes what the network does, within {TOLERANCE:.0e}")


if __name__ == "__main__":
    sys.exit(main())
