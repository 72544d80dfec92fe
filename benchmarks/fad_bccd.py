"""Heads on blood cells: found, published, random of equal cost, and FCOS's own, trained under one budget.

    OMP_NUM_THREADS=1 python benchmarks/fad_bccd.py /data/bccd outputs/fad --weights mobilenet_v2.safetensors

For every random seed the recipe bccd/fcos_head_search searches a head on the set in Pascal VOC's form; bccd/fcos
then trains all of them. What is finished in the output folder is not run again, and what was interrupted goes on.
Prints the table of benchmarks/fad.md from the runs there are. Torchvision's FCOS: torchvision_detectors.py fcos.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean, stdev

import torch
from measuring import Runs

from fna_lightning.architectures import load_parts, save_parts
from fna_lightning.blocks import build_towers, groups_of
from fna_lightning.choices import Choices
from fna_lightning.costs import count
from fna_lightning.supernets import TowerSpace

WIDTH, CHANNELS = 96, 32  # of the recipes
LEVEL = (30, 40)
"""Of the largest level at their size, on which heads are compared by cost."""
WITHIN = 0.03
"""Of the found head's multiply-adds, that a random one's differ at most."""
NETWORKS = {
    "found": "found",
    "published": "published (`fad`)",
    "published_other": "published (`fad_other`)",
    "random": "random, of the found one's cost",
    "own": "FCOS's own",
}
"""Folders of the runs, and what the table calls them."""


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path, help="blood cells in COCO's and Pascal VOC's format")
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("--weights", required=True, help="MobileNetV2's of ImageNet")
    parser.add_argument("--random-seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("overrides", nargs="*", help="settings of every run, such as channels_last=true")
    options = parser.parse_intermixed_args()
    inputs = [f"data.root={options.bccd}", f"seed.weights={options.weights}", *options.overrides]
    for number in options.random_seeds:
        chain(Runs(options.folder, [*inputs, f"random_seed={number}"]), number)
    show(Runs(options.folder), options.random_seeds)


def chain(runs: Runs, number: int) -> None:
    """Search, then train all networks, of one random seed."""
    found = f"search/{number}"
    runs.run("search", found, "experiment=bccd/fcos_head_search", "data=bccd_voc")
    parts = load_parts(runs.folder / found)
    draw = runs.folder / f"drawn/{number}"
    draw.mkdir(parents=True, exist_ok=True)
    save_parts({**parts, "head": random_head(parts["head"], number)}, draw)
    chosen = {
        "found": [f"architecture={runs.folder / found}"],
        "published": ["architecture=fad_mobilenet_v2"],
        "published_other": ["architecture=fad_mobilenet_v2", "architecture.head=fad_other"],
        "random": [f"architecture={draw}"],
        "own": [],
    }
    for name in NETWORKS:
        runs.run("train", f"{name}/{number}", "experiment=bccd/fcos", *chosen[name])


def random_head(found: object, number: int) -> object:
    """The first head drawn whose towers cost as much as those of `found`."""
    torch.manual_seed(number)
    supernet = build_towers(TowerSpace(), WIDTH, CHANNELS, 1, groups_of(WIDTH, CHANNELS))
    choices, wanted = Choices(supernet), cost_of(found)
    iteration = 0
    while True:
        head = choices.derive(choices.draw(number, iteration))["head"]
        if abs(cost_of(head) / wanted - 1) <= WITHIN:
            return head
        iteration += 1


def cost_of(head: object) -> int:
    """Multiply-adds of the towers on the largest level."""
    towers = build_towers(head, WIDTH, CHANNELS, 1, groups_of(WIDTH, CHANNELS))
    return count(towers, LEVEL, channels=WIDTH).madds


def show(runs: Runs, random_seeds: list[int]) -> None:
    """A row a network: mean and spread of its mAP, its cost."""
    print("\n| head | mAP | spread | trainings | multiply-adds | parameters |\n|---|---|---|---|---|---|")
    for name, title in NETWORKS.items():
        results = [runs.results(f"{name}/{number}") for number in random_seeds]
        scores = [each["metrics"]["mAP"] for each in results]
        madds, params = (fmean(each["cost"][key] for each in results) / 1e6 for key in ("madds", "params"))
        spread = f"{stdev(scores):.3f}" if len(scores) > 1 else "-"
        print(f"| {title} | {fmean(scores):.3f} | {spread} | {len(scores)} | {madds:.0f} M | {params:.2f} M |")


if __name__ == "__main__":
    main()
