"""Run directories as search.py and train.py leave them."""

import pytest
from fake_runs import COCO, COST, alpha_rows, fna_choices, search_rows, train_rows, write_rows

from fna_lightning.architectures import load_architecture, save_architecture
from fna_lightning.remapping.report import OWN, Entry, RemapReport
from fna_lightning.reporting.results import write_results


@pytest.fixture
def config():
    return {"data": {"root": "/data/coco"}, "cost": {"weight": 0.02}, "paths": {"output": "/somewhere"}, "seed": 1}


@pytest.fixture
def fill(config):
    """Make a folder into a whole run directory."""

    def make(folder, entry="train", metrics=COCO, cost=COST):
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, entry=entry, metrics=metrics, cost=cost, input_size=(800, 1088), seconds=4521.7,
                      images=9000, config=config)  # fmt: skip
        architecture = load_architecture("fna_retinanet")
        save_architecture(architecture, folder / "architecture.yaml")
        save_architecture(architecture, folder / "architecture.txt")
        write_rows(folder / "metrics.csv", search_rows() if entry == "search" else train_rows())
        if entry == "search":
            write_rows(folder / "alphas.csv", alpha_rows(fna_choices()))
        entries = [Entry(f"stages.2.{n}.weight", (24, 16, 3, 3), "x", (24, 16, 3, 3), "copied") for n in range(90)]
        entries += [Entry(f"stages.3.{n}.weight", (24, 1, 5, 5), "x", (24, 1, 3, 3), "resized") for n in range(9)]
        entries += [Entry("fpn.weight", (256, 32, 1, 1), "", (), OWN)]
        RemapReport("mobilenet_v2", "fna", tuple(entries)).save(folder / "remapping.csv")
        (folder / "config.yaml").write_text("data:\n  root: /data/coco\ncost:\n  weight: 0.02\n")
        (folder / "checkpoints").mkdir(exist_ok=True)
        return folder

    return make
