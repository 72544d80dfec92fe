"""Time and peak memory of evaluating one image with a segmenter: by windows, so many at a time, and whole.

    OMP_NUM_THREADS=1 python benchmarks/sliding_window.py --size 1024 2048 --window 769 --repeats 3

The network is DeepLabV3 on MobileNetV2 at output stride 16. All ways are measured on the same image, in turn for
time and in a process of its own each for memory. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from measuring import machine, memory_in_own_process, peak_of, seconds_in_turn

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.segmenters import DeepLabV3, Inference

CLASSES = 19


def main() -> None:
    """Measure and print a table in Markdown."""
    options = _options()
    ways = {f"{batch} at a time": Inference(options.window, window_batch=batch) for batch in options.window_batch}
    ways["whole image"] = Inference()
    if options.memory_of:
        print(json.dumps(peak_of(evaluation(ways[options.memory_of], options), options.device)))
        return
    memory = {way: memory_in_own_process(way) for way in ways}
    calls = {way: evaluation(inference, options) for way, inference in ways.items()}
    seconds = seconds_in_turn(calls, options.repeats, options.device)
    height, width = options.size
    print(f"\n{machine(options.device)}; torch {torch.__version__}; one image of {height}x{width}, ", end="")
    print(f"{CLASSES} classes, windows of {options.window}, {options.repeats} repeats; ", end="")
    print(f"the probabilities take {CLASSES * height * width * 4 / 2**20:,.0f} MiB\n")
    print("| windows | seconds | of whole | peak memory | of whole |\n|---|---|---|---|---|")
    for way in ways:
        time_ratio, memory_ratio = seconds[way] / seconds["whole image"], memory[way] / memory["whole image"]
        print(f"| {way} | {seconds[way]:.2f} | {time_ratio:.2f} ", end="")
        print(f"| {memory[way] / 2**20:,.0f} MiB | {memory_ratio:.2f} |")


def evaluation(inference: Inference, options: argparse.Namespace) -> Callable[[], Any]:
    """A function that computes the probabilities of one image made beforehand."""
    torch.manual_seed(0)
    backbone = build_backbone(load_architecture("mobilenet_v2"), (7,), output_stride=16)
    network = DeepLabV3(backbone, CLASSES).eval().to(options.device)
    image = torch.randint(0, 256, (1, 3, *options.size), dtype=torch.uint8, device=options.device)
    return lambda: inference.probabilities(network, image)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"]
    )
    parser.add_argument("--size", type=int, nargs=2, default=[1024, 2048], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--window", type=int, default=769, help="side in pixels")
    parser.add_argument("--window-batch", type=int, nargs="+", default=[1, 2, 4, 8], help="windows at a time")
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
