"""Time and peak memory of a weight step, an architecture step and a plain training step of the same path.

    python benchmarks/step_time.py --size 800 1088 --batch 1 --repeats 5

The three are measured in turn, on the same images, in one process for time and in a process each for memory.
A plain step trains the network derived from the path, as train.py does: batch norms with scale, offset and
running statistics. Figures are medians; the file to write them to is benchmarks/step_time.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import torch
from measuring import machine, memory_in_own_process, peak_resident, seconds_in_turn
from torch import Tensor, nn

from fna_lightning.architectures import load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Backbone
from fna_lightning.choices import Choices
from fna_lightning.costs import tabulate
from fna_lightning.detectors import RetinaNet
from fna_lightning.search import Alphas, BilevelSearch, CostObjective
from fna_lightning.supernets import MobileSpace, build_supernet

KINDS = ("plain", "weight", "architecture")
STAGES = (3, 5, 7)
CLASSES = 80


def main() -> None:
    """Measure and print a table in Markdown."""
    options = _options()
    if options.memory_of:
        print(json.dumps(peak_memory(options.memory_of, options)))
        return
    memory = {kind: memory_in_own_process(kind) for kind in KINDS}
    seconds = times(options)
    height, width = options.size
    print(f"\n{machine(options.device)}; torch {torch.__version__}; RetinaNet, {CLASSES} classes, ", end="")
    print(f"{options.channels} channels, batch {options.batch} of {height}x{width}, {options.repeats} repeats\n")
    print("| step | seconds | of plain | images/s | peak memory | of plain |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        time_ratio, memory_ratio = seconds[kind] / seconds["plain"], memory[kind] / memory["plain"]
        print(
            f"| {kind} | {seconds[kind]:.3f} | {time_ratio:.2f} | {options.batch / seconds[kind]:.2f} "
            f"| {memory[kind] / 2**20:,.0f} MiB | {memory_ratio:.2f} |"
        )


def times(options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each kind of step."""
    steps = {kind: build_step(kind, options) for kind in KINDS}
    return seconds_in_turn(steps, options.repeats, options.device)


def peak_memory(kind: str, options: argparse.Namespace) -> int:
    """Bytes at the peak of three steps: allocated on the GPU, or resident beyond the libraries' share."""
    before = peak_resident()
    step = build_step(kind, options)
    for _ in range(3):
        step()
    if options.device == "cuda":
        return torch.cuda.max_memory_allocated()
    return peak_resident() - before


def build_step(kind: str, options: argparse.Namespace) -> Callable[[], Any]:
    """A function that takes one step of `kind` on images made beforehand."""
    torch.manual_seed(0)
    batch = make_batch(options)
    space = MobileSpace(load_architecture("mobilenet_v2"), {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1})
    supernet = build_supernet(space, STAGES)
    path = Choices(supernet).draw(0, 0)
    if kind == "plain":
        network = detector(build_backbone(supernet.architecture_of(path), STAGES), options)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
        return lambda: plain_step(network, optimizer, batch)
    network = detector(supernet, options)
    search = make_search(network, supernet, tuple(options.size))
    if kind == "weight":
        optimizer = torch.optim.SGD(search.weights, lr=1e-4, momentum=0.9, weight_decay=1e-4)
        return lambda: search.weight_step(batch, optimizer, 0)  # iteration 0 draws the plain network's path
    adam = torch.optim.Adam(search.alphas.parameters(), lr=3e-4)
    return lambda: search.architecture_step(batch, adam)


def plain_step(network: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    """What any training loop does."""
    loss = torch.stack(list(losses(network, batch).values())).sum()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 35)
    optimizer.step()


def make_search(network: nn.Module, supernet: nn.Module, size: tuple[int, int]) -> BilevelSearch:
    """The search of the recipe."""
    choices, cost, objective = Choices(supernet), tabulate(supernet, size), CostObjective(0.02)
    device = next(network.parameters()).device
    cost.to(device)
    return BilevelSearch(
        network,
        choices,
        lambda batch: losses(network, batch),
        Alphas(choices).to(device),
        lambda weights: objective(cost, weights),
        clip_weights=35,
        clip_architecture=35,
    )


def losses(network: nn.Module, batch: Any) -> dict[str, Tensor]:
    """The detector's."""
    images, boxes, labels = batch
    return network.loss(network(images), boxes, labels)  # pyright: ignore[reportCallIssue]


def detector(backbone: Backbone, options: argparse.Namespace) -> nn.Module:
    """RetinaNet as FNA has it, or narrower."""
    return RetinaNet(backbone, CLASSES, fpn_channels=options.channels).to(options.device)


def make_batch(options: argparse.Namespace) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Noise with eight boxes an image."""
    height, width = options.size
    images = torch.randint(0, 256, (options.batch, 3, height, width), dtype=torch.uint8)
    corners = torch.rand(options.batch, 8, 2) * torch.tensor([width, height]) * 0.6
    boxes = torch.cat([corners, corners + torch.tensor([width, height]) * 0.3], dim=2)
    labels = torch.randint(0, CLASSES, (options.batch, 8))
    return images.to(options.device), list(boxes.to(options.device)), list(labels.to(options.device))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"]
    )
    parser.add_argument("--size", type=int, nargs=2, default=[800, 1088], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=1, help="images a step")
    parser.add_argument("--channels", type=int, default=256, help="of the pyramid and the heads")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
