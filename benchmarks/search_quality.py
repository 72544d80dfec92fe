"""Whether searches find networks that are better than the seed's and than random ones of the same cost.

    OMP_NUM_THREADS=1 python benchmarks/search_quality.py /data outputs/quality --weights seed.pth --at-once 2

/data holds bccd and camvid_cityscapes. For each task and share of the seed's multiply-adds, and for every random
seed: a search by gradients, one by evolution, both combined, and the best of as many random candidates by the same
supernet's score; what they found, random networks, and MobileNetV2 (at other costs with a width multiplier) are
then trained by the task's recipe. A supernet of an evolution serves all costs. Every score is a row of
benchmarks/search_quality.csv: what has a row is not run again, from whatever checkout, and what was interrupted in
the output folder goes on. Prints the tables of benchmarks/search_quality.md from the rows there are.

    ... --tasks deeplabv3 --shares 1.0 --random-seeds 0 --ways evolution      a part of it
    ... --show                                                                the tables alone
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from threading import Lock
from typing import cast

from measuring import Runs
from omegaconf import DictConfig, OmegaConf

from fna_lightning.architectures import (
    MobileArchitecture,
    load_architecture,
    save_architecture,
)
from fna_lightning.backbones import build_backbone
from fna_lightning.choices import Choices
from fna_lightning.costs import count
from fna_lightning.reporting.candidates import read_candidates
from fna_lightning.runs import build
from fna_lightning.supernets import build_supernet

ROWS = Path(__file__).with_suffix(".csv")
HEAD = ("task", "share", "network", "random_seed", "score", "madds", "search_seconds", "architecture")
RANDOM = 2
"""Random networks of every task, cost and random seed."""
CANDIDATES = 60
"""Paths that evolution and the best of random ones score."""
EVOLUTION = ("search=evolution_bccd", "search.generations=6", "search.population=10", "search.near_seed=0.5")
OF_RANDOM = (
    "search=evolution_bccd",
    *("search.generations=1", f"search.population={CANDIDATES}", "search.mutations=0", "search.crossovers=0"),
    *("search.with_seed=false", "trainer.max_epochs=1"),
)


@dataclass(frozen=True)
class Task:
    """A detector on a set: its recipes, and the budget beyond which the order of networks changes no more."""

    data: str
    search: str
    train: str
    epochs: int
    metric: str
    evolution: tuple[str, ...] = ()


TASKS = {
    "retinanet": Task("bccd", "bccd/search", "bccd/train", 24, "mAP"),
    "ssdlite": Task("bccd", "bccd/ssdlite_search", "bccd/ssdlite", 24, "mAP"),
    "deeplabv3": Task(
        "camvid_cityscapes",
        "camvid/search",
        "camvid/train",
        24,
        "mIoU",
        ("search.share=0.2", "search.schedule.milestones=[20]"),
    ),
}
WAYS: dict[str, tuple[str, ...]] = {
    "gradient": (),
    "evolution": EVOLUTION,
    # Each part of the evolution left out by itself.
    "evolution, published norms": (*EVOLUTION, "space.norms=published"),
    "evolution, published remapping": (*EVOLUTION, "remap=fna"),
    "evolution without the seed": (*EVOLUTION, "search.with_seed=false"),
    "evolution, uniform paths": (*EVOLUTION, "search.near_seed=0"),
    "gradient by paths": ("search.paths=8",),
    # Evolution over the supernet of the gradient search, whose belief proposes the paths.
    "combination": (*EVOLUTION, "search.proposals=supernet"),
}


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds bccd and camvid_cityscapes")
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("--weights", required=True, help="MobileNetV2's of ImageNet")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.6, 1.3], help="of the seed's cost")
    parser.add_argument("--random-seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="*", default=["gradient", "evolution", "combination"], choices=list(WAYS))
    parser.add_argument("--at-once", type=int, default=1, help="runs side by side")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("overrides", nargs="*", help="settings of every run, such as channels_last=true")
    arguments = parser.parse_intermixed_args()
    if not arguments.show:
        with ThreadPoolExecutor(arguments.at_once) as pool:
            for number in arguments.random_seeds:
                for job in (job for each in arguments.tasks for job in _Bench(arguments, each, number).jobs()):
                    list(pool.map(lambda call: call(), job))
    show()


class _Bench:
    """The runs of one task with one random seed."""

    def __init__(self, arguments: argparse.Namespace, name: str, random_seed: int) -> None:
        self._name, self._task, self._random_seed = name, TASKS[name], random_seed
        self._arguments = arguments
        inputs = (f"data.root={arguments.data / self._task.data}", f"seed.weights={arguments.weights}")
        self._runs = Runs(arguments.folder, [*inputs, f"random_seed={random_seed}", *arguments.overrides])

    def jobs(self) -> Iterator[list[Callable[[], None]]]:
        """What may run side by side, one after the other."""
        for share in self._arguments.shares:
            first = [way for way in self._arguments.ways if way != "combination"]
            for ways in (first, [way for way in self._arguments.ways if way not in first]):
                yield [lambda way=way, share=share: self._search(way, share) for way in ways]
            names = ["seed", *self._arguments.ways]
            if "evolution" in self._arguments.ways and share == 1:
                yield [lambda share=share: self._score_random(share)]
                names += ["best of random", *(f"random {number}" for number in range(1, RANDOM + 1))]
            yield [lambda name=name, share=share: self._train(name, share) for name in names]

    def _place(self, network: str, share: float) -> str:
        return f"{self._name}/{share:g}/{network.replace(', ', '_').replace(' ', '_')}/{self._random_seed}"

    def _search(self, way: str, share: float) -> None:
        if self._row(way, share) is None:
            more = self._task.evolution if WAYS[way][:1] == EVOLUTION[:1] else ()
            if (supernet := self._supernet(way, share)) is not None:
                more = (*more, f"search.supernet={supernet}", "trainer.max_epochs=1")
            target = f"cost.target={_madds(self._name, narrowed(self._name, share))}"
            recipe = f"experiment={self._task.search}"
            self._runs.run("search", self._place(way, share), recipe, target, *WAYS[way], *more)

    def _supernet(self, way: str, share: float) -> Path | None:
        """The run whose supernet a search takes: the gradient search's, or the same way's at the first cost."""
        first = self._arguments.shares[0]
        if way == "combination":
            return self._runs.folder / self._place("gradient", share)
        of_paths = WAYS[way][:1] == EVOLUTION[:1]
        return self._runs.folder / self._place(way, first) if of_paths and share != first else None

    def _seconds(self, way: str, share: float) -> float:
        """Of a search, those of the supernet that it took included; 0 for what was not searched."""
        if way not in WAYS:
            return 0
        own = self._runs.results(self._place(way, share))["time"]["training_seconds"]
        source = self._supernet(way, share)
        before = 0 if source is None else self._runs.results(str(source))["time"]["training_seconds"]
        return own + before

    def _score_random(self, share: float) -> None:
        """Random candidates by the score of evolution's supernet, and the first of them as networks."""
        place = self._place("best of random", share)
        if self._row("best of random", share) is None:
            searched = self._runs.folder / self._place("evolution", share)
            target = f"cost.target={_madds(self._name, narrowed(self._name, share))}"
            recipe = f"experiment={self._task.search}"
            more = (*self._task.evolution, f"search.supernet={searched}")
            self._runs.run("search", place, recipe, target, *OF_RANDOM, *more)
            config = cast("DictConfig", OmegaConf.load(self._runs.folder / place / "config.yaml"))
            supernet = build_supernet(build.build_spaces(config, build.resolve_parts(config))["backbone"])
            rows = read_candidates(self._runs.folder / place / "candidates.csv").rows
            for number, row in enumerate(rows[:RANDOM], start=1):
                folder = self._runs.folder / self._place(f"random {number}", share)
                folder.mkdir(parents=True, exist_ok=True)
                path = [int(index) for index in row.path.split("-")]
                save_architecture(Choices(supernet).derive(path)["backbone"], folder / "architecture.yaml")

    def _train(self, network: str, share: float) -> None:
        if self._row(network, share) is not None:
            return
        place = self._place(network, share)
        folder = self._runs.folder / place
        if network == "seed":
            folder.mkdir(parents=True, exist_ok=True)
            save_architecture(narrowed(self._name, share), folder / "architecture.yaml")
        options = (f"experiment={self._task.train}", f"trainer.max_epochs={self._task.epochs}")
        rarely = f"trainer.check_val_every_n_epoch={self._task.epochs}"
        self._runs.run("train", f"{place}/train", *options, rarely, f"architecture={folder}")
        architecture = load_architecture(folder / "train")
        results = self._runs.results(f"{place}/train")
        self._note(
            network,
            share,
            f"{results['metrics'][self._task.metric]:.4f}",
            str(_madds(self._name, cast("MobileArchitecture", architecture))),
            f"{self._seconds(network, share):.0f}",
            " ".join(str(architecture).split()),
        )

    def _row(self, network: str, share: float) -> dict[str, str] | None:
        key = (self._name, f"{share:g}", network, str(self._random_seed))
        return next((row for row in rows() if tuple(row[name] for name in HEAD[:4]) == key), None)

    def _note(self, network: str, share: float, *figures: str) -> None:
        with _LOCK, ROWS.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(
                (self._name, f"{share:g}", network, self._random_seed, *figures)
            )


_LOCK = Lock()


def narrowed(task: str, share: float) -> MobileArchitecture:
    """MobileNetV2 with the width multiplier that costs about this share of it, widths divisible by 8."""
    base = cast("MobileArchitecture", load_architecture("mobilenet_v2"))
    if share == 1:
        return base
    whole = _madds(task, base)

    def of(multiplier: float) -> MobileArchitecture:
        def width(channels: int) -> int:
            return max(8, int(channels * multiplier + 4) // 8 * 8)

        data = base.to_dict()
        data["stem_width"] = width(data["stem_width"])
        for stage in data["stages"]:
            stage["width"] = width(stage["width"])
        return MobileArchitecture.from_dict(data)

    found = (of(number / 200) for number in range(60, 320))
    return min(found, key=lambda each: abs(_madds(task, each) / whole - share))


def _madds(task: str, architecture: MobileArchitecture) -> int:
    """Of the backbone as the task's detector reads it, at the recipe's size."""
    size, maps, stride = {
        "retinanet": ((240, 320), (2, 3, 5, 7), None),
        "ssdlite": ((320, 320), ("6.expand", 8), None),
        "deeplabv3": ((360, 480), (7,), 16),
    }[task]
    return count(build_backbone(architecture, maps, output_stride=stride), size).madds


def rows() -> list[dict[str, str]]:
    """All that was measured."""
    if not ROWS.exists():
        ROWS.write_text(",".join(HEAD) + "\n", encoding="utf-8")
    with ROWS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def show() -> None:
    """A table a task and cost: mean, spread and number of trainings, cost, time of the search."""
    tables: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows():
        name = "random" if row["network"].startswith("random") else row["network"]
        tables[row["task"], row["share"]][name].append(row)
    for (task, share), networks in tables.items():
        print(f"\n### {task}, {float(share):.0%} of the seed's multiply-adds\n")
        print("| network | score | spread | trainings | backbone's multiply-adds | search |")
        print("|---|---|---|---|---|---|")
        for name, found in networks.items():
            scores = [float(row["score"]) for row in found]
            madds = sorted(float(row["madds"]) / 1e6 for row in found)
            spread = f"{stdev(scores):.3f}" if len(scores) > 1 else "-"
            seconds = fmean(float(row["search_seconds"]) for row in found)
            taken = f"{seconds / 60:.0f} min" if seconds else "-"
            costs = f"{madds[0]:.0f}" if madds[0] == madds[-1] else f"{madds[0]:.0f} to {madds[-1]:.0f}"
            print(f"| {name} | {fmean(scores):.3f} | {spread} | {len(scores)} | {costs} M | {taken} |")


if __name__ == "__main__":
    main()
