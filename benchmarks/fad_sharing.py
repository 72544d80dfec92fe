"""What sharing representations saves: FAD's supernet of a head beside the one that computes every chain by itself.

    python benchmarks/fad_sharing.py                  a tower of 96 channels on levels of a small picture, on a CPU
    python benchmarks/fad_sharing.py --device cuda --size 416 704 --batch 4

One step is the forward and backward pass of the mixture over both towers, on all five levels. Prints a table of
seconds and peak memory, each as measured and over the shared one's; multiply-adds are counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from measuring import machine, memory_in_own_process, peak_of, seconds_in_turn
from torch import Tensor, nn

from fna_lightning.blocks import build_towers
from fna_lightning.choices import Choices
from fna_lightning.supernets import TowerSpace

WIDTH = 256
STRIDES = (8, 16, 32, 64, 128)
WAYS = {"shared": True, "separate": False}


def main() -> None:
    """Measure both and print a table."""
    options = arguments()
    if options.memory_of:
        print(json.dumps(peak_of(step(options.memory_of, options), options.device)))
        return
    memory = {way: memory_in_own_process(way) for way in WAYS}
    seconds = seconds_in_turn({way: step(way, options) for way in WAYS}, options.repeats, options.device)
    height, width = options.size
    print(
        f"\n{machine(options.device)}; torch {torch.__version__}; {options.batch} pictures of {height}x{width}, "
    )
    print(f"{WIDTH} channels, {options.channels} inside the edges, {options.repeats} repeats\n")
    print("| chains | seconds a step | over shared | peak memory | over shared |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        times, peaks = seconds[way] / seconds["shared"], memory[way] / memory["shared"]
        print(f"| {way} | {seconds[way]:.3f} | {times:.2f} | {memory[way] / 2**20:,.0f} MiB | {peaks:.2f} |")


def step(way: str, options: argparse.Namespace) -> Callable[[], Any]:
    """A forward and backward pass of the mixture."""
    torch.manual_seed(0)
    space = TowerSpace(sharing=WAYS[way])
    towers = build_towers(space, WIDTH, options.channels, 1).to(options.device)
    choices = Choices(towers)
    alphas = [nn.Parameter(choice.start.clone().to(options.device)) for choice in choices]
    sizes = [[-(-side // stride) for side in options.size] for stride in STRIDES]
    levels = [torch.randn(options.batch, WIDTH, *size, device=options.device) for size in sizes]

    def run() -> None:
        choices.set_mixture([alpha.softmax(0) for alpha in alphas])
        outputs: list[Tensor] = [output for level in levels for output in towers(level)]
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        towers.zero_grad(set_to_none=True)

    return run


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--size", type=int, nargs=2, default=[208, 352], help="height and width of a picture")
    parser.add_argument("--batch", type=int, default=1, help="pictures")
    parser.add_argument("--channels", type=int, default=96, help="inside the edges")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
