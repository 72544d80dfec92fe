"""DetNAS's chain on small sets: what was found, beside random networks of equal cost and the largest kernels.

    OMP_NUM_THREADS=1 python benchmarks/detnas.py /data/cifar10 /data/bccd outputs/detnas

Runs the recipes `cells/...` one after the other, then trains the found network and the others under one budget,
from step 4 on. Whatever is finished in the output folder is not run again, and what was interrupted goes on, so
that the same command resumes. Prints the table and the rank correlation of benchmarks/detnas.md.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from measuring import Runs

from fna_lightning.architectures import load_architecture, save_architecture
from fna_lightning.architectures.shuffle import ShuffleArchitecture
from fna_lightning.backbones import build_backbone
from fna_lightning.costs import count
from fna_lightning.reporting.candidates import Candidate, read_candidates

LARGEST = "shuffle_7x7"


def main() -> None:
    """Run what is missing, print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path, help="image folders: train/<class>, val/<class>")
    parser.add_argument("bccd", type=Path, help="blood cells in COCO's format")
    parser.add_argument("folder", type=Path, help="of the runs")
    parser.add_argument("--at-once", type=int, default=1, help="networks that are trained side by side")
    parser.add_argument("overrides", nargs="*", help="settings of every run, such as channels_last=true")
    arguments = parser.parse_intermixed_args()
    chain = Chain(arguments.cifar10, arguments.bccd, arguments.folder, arguments.overrides)
    chain.search()
    networks = chain.networks()
    with ThreadPoolExecutor(arguments.at_once) as pool:
        list(pool.map(chain.train, networks))
    chain.run("evaluate", "evaluate", f"checkpoint={chain.folder / 'found' / 'finetune'}")
    chain.show(list(networks))


class Chain(Runs):
    """The runs in one folder."""

    def __init__(self, cifar10: Path, bccd: Path, folder: Path, overrides: list[str]) -> None:
        super().__init__(folder, overrides)
        self.cifar10, self.bccd = f"data.root={cifar10}", f"data.root={bccd}"

    def search(self) -> None:
        """Steps 1 to 3."""
        pretrained, finetuned = self.folder / "supernet_pretrain", self.folder / "supernet_finetune"
        self.run("search", "supernet_pretrain", "experiment=cells/supernet_pretrain", self.cifar10)
        step = ("experiment=cells/supernet_finetune", self.bccd, f"search.supernet={pretrained}")
        self.run("search", "supernet_finetune", *step)
        self.run("search", "search", "experiment=cells/search", self.bccd, f"search.supernet={finetuned}")

    def networks(self) -> dict[str, Candidate | None]:
        """Write an architecture a name: what was found, the largest kernels, others of the random generation."""
        rows = read_candidates(self.folder / "search" / "candidates.csv").rows
        found = max(rows, key=lambda row: row.score)
        drawn = sorted((row for row in rows if row.generation == 0 and row != found), key=lambda row: row.score)
        near = sorted(drawn, key=lambda row: abs(row.costs[0] - found.costs[0]))[:3]
        spread = [row for row in drawn if row not in near]
        spread = [spread[round(number * (len(spread) - 1) / 3)] for number in range(4)]
        named: dict[str, Candidate | None] = {"found": found, "largest": None}
        named |= {f"equal_{number}": row for number, row in enumerate(near, start=1)}
        named |= {f"drawn_{number}": row for number, row in enumerate(spread, start=1)}
        base = load_architecture(self.folder / "search")
        assert isinstance(base, ShuffleArchitecture)
        for name, row in named.items():
            (self.folder / name).mkdir(exist_ok=True)
            save_architecture(_network(base, row), self.folder / name / "architecture.yaml")
        return named

    def train(self, name: str) -> None:
        """Steps 4 and 5 of one network."""
        architecture = f"architecture={self.folder / name}"
        pretrained = self.folder / name / "pretrain"
        self.run("train", f"{name}/pretrain", "experiment=cells/subnet_pretrain", self.cifar10, architecture)
        step = ("experiment=cells/subnet_finetune", self.bccd, f"seed.weights={pretrained}", architecture)
        self.run("train", f"{name}/finetune", *step)

    def show(self, names: list[str]) -> None:
        """The table, and Kendall's rank correlation of the scores of supernet and training."""
        rows = self.networks()
        print("| network | architecture | supernet's score | mAP | mAP 50 | CIFAR-10 | backbone's multiply-adds |")
        print("|---|---|---|---|---|---|---|")
        pairs = []
        for name in names:
            trained, row = self.results(f"{name}/finetune"), rows[name]
            accuracy = self.results(f"{name}/pretrain")["metrics"]["accuracy"]
            scores = trained["metrics"]
            if row is not None:
                pairs.append((row.score, scores["mAP"]))
            text = str(load_architecture(self.folder / name)).split(":", 1)[1].strip()
            score = "-" if row is None else f"{row.score:.3f}"
            madds = count(build_backbone(load_architecture(self.folder / name)), (224, 224)).madds
            print(
                f"| {name} | `{text}` | {score} | {scores['mAP']:.3f} | {scores['mAP_50']:.3f} | {accuracy:.3f} "
                f"| {madds / 1e6:.1f} M |"
            )
        print(f"\nKendall's tau over {len(pairs)} networks: {kendall(pairs):.2f}")
        print(f"evaluate.py: {self.results('evaluate')['metrics']['mAP']:.4f} mAP of the found one")


def kendall(pairs: list[tuple[float, float]]) -> float:
    """Concordant minus discordant pairs over all pairs, on [-1, 1]; ties count for neither."""
    signs = [(a[0] - b[0]) * (a[1] - b[1]) for a, b in combinations(pairs, 2)]
    return sum((sign > 0) - (sign < 0) for sign in signs) / len(signs)


def _network(base: ShuffleArchitecture, row: Candidate | None) -> ShuffleArchitecture:
    """The network of a candidate's path, or of the largest kernels everywhere."""
    candidates = ("shuffle_3x3", "shuffle_5x5", LARGEST, "xception_3x3")
    count = sum(len(stage.layers) for stage in base.stages)
    names = [LARGEST] * count if row is None else [candidates[int(gene)] for gene in row.path.split("-")]
    left = iter(names)
    return replace(
        base, stages=tuple(replace(stage, layers=tuple(next(left) for _ in stage.layers)) for stage in base.stages)
    )


if __name__ == "__main__":
    main()
