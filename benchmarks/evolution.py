"""FNA's RetinaNet on blood cells: searched by gradients, and by evolution under a hard limit, at the same budget.

    OMP_NUM_THREADS=1 python benchmarks/evolution.py /data/bccd outputs/evolution --weights mobilenet_v2.pth

Both searches take the recipe bccd/search: its epochs, one limit on the backbone's multiply-adds, one random seed;
evolution scores as many candidates as fit into the time that gradients take. What they found, random paths of
the cost of what evolution found, and the seed's network are then trained by bccd/train. Whatever is finished in
the output folder is not run again, and what was interrupted goes on, so that the same command resumes. Prints
the table of benchmarks/evolution.md.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measuring import Runs
from omegaconf import DictConfig, OmegaConf

from fna_lightning.architectures import load_architecture, save_parts
from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.costs import count
from fna_lightning.reporting.candidates import read_candidates
from fna_lightning.runs import build
from fna_lightning.supernets import build_supernet

LIMIT = 3e8
"""Multiply-adds of the backbone at 240x320, where the seed's has 434 million."""
SEARCHES = {
    "gradients": ("search=bilevel_bccd", f"cost.target={LIMIT:.0f}"),
    "evolution": ("search=evolution_bccd",),
}
RANDOM = ("random_1", "random_2")


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", type=Path, help="blood cells in COCO's format")
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("--weights", required=True, help="MobileNetV2's of ImageNet")
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("overrides", nargs="*", help="settings of every run, such as channels_last=true")
    arguments = parser.parse_intermixed_args()
    inputs = (f"data.root={arguments.bccd}", f"seed.weights={arguments.weights}")
    runs = Runs(arguments.folder, [*inputs, *arguments.overrides])

    def search(name: str) -> None:
        runs.run("search", name, "experiment=bccd/search", f"cost.limit={LIMIT:.0f}", *SEARCHES[name])

    def train(name: str) -> None:
        architecture = "mobilenet_v2" if name == "seed" else runs.folder / name
        runs.run("train", f"{name}/train", "experiment=bccd/train", f"architecture={architecture}")

    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(search, SEARCHES))
        draw(runs.folder)
        list(pool.map(train, [*SEARCHES, *RANDOM, "seed"]))
    show(runs)


def draw(folder: Path) -> None:
    """Write down as architectures the random candidates whose cost is nearest to that of what evolution found."""
    rows = read_candidates(folder / "evolution" / "candidates.csv").rows
    found = max(rows, key=lambda row: row.score)
    drawn = [row for row in rows if row.generation == 0 and row != found]
    near = sorted(drawn, key=lambda row: abs(row.costs[0] - found.costs[0]))
    config = OmegaConf.load(folder / "evolution" / "config.yaml")
    assert isinstance(config, DictConfig)
    parts = build.resolve_parts(config)
    choices = Choices(build_supernet(build.build_spaces(config, parts)["backbone"]))
    for name, row in zip(RANDOM, near, strict=False):
        (folder / name).mkdir(exist_ok=True)
        save_parts(parts | choices.derive([int(index) for index in row.path.split("-")]), folder / name)


def show(runs: Runs) -> None:
    """The table."""
    print("| network | mAP | mAP 50 | mAP 75 | backbone's multiply-adds | and parameters | search |")
    print("|---|---|---|---|---|---|---|")
    for name in (*SEARCHES, *RANDOM, "seed"):
        scores = runs.results(f"{name}/train")["metrics"]
        time = f"{runs.results(name)['time']['training_seconds'] / 60:.0f} min" if name in SEARCHES else "-"
        figures = " | ".join(f"{scores[key]:.3f}" for key in ("mAP", "mAP_50", "mAP_75"))
        cost = count(build_backbone(load_architecture(runs.folder / name / "train")), (240, 320))
        print(f"| {name} | {figures} | {cost.madds / 1e6:.1f} M | {cost.params / 1e6:.2f} M | {time} |")


if __name__ == "__main__":
    main()
