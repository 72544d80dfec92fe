"""Run directories as search.py and train.py leave them, made up of plausible numbers."""

import csv
import math

import numpy as np
import pytest

from fna_lightning.architectures import load_architecture, save_architecture
from fna_lightning.costs import Cost
from fna_lightning.remapping.report import OWN, Entry, RemapReport
from fna_lightning.reporting.results import write_results

COCO = {
    "mAP": 0.2213, "mAP_50": 0.4401, "mAP_75": 0.1987, "mAP_small": -1.0, "mAP_medium": 0.1764,
    "mAP_large": 0.2891, "mAR_1": 0.1502, "mAR_10": 0.3311, "mAR_100": 0.3608, "mAR_small": -1.0,
    "mAR_medium": 0.31, "mAR_large": 0.4122,
}  # fmt: skip


def write_rows(path, rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def train_rows(steps=600, epochs=8):
    noise = np.random.default_rng(0)
    rows = []
    for step in range(0, steps, 2):
        cls, box = (scale * math.exp(-step / 200) + 0.2 + 0.1 * abs(noise.normal()) for scale in (1.1, 0.7))
        rows.append({"epoch": step * epochs // steps, "step": step, "train/classification": cls, "train/box": box,
                     "train/loss": cls + box})  # fmt: skip
    for epoch in range(epochs):
        step = (epoch + 1) * steps // epochs - 1
        score = 0.24 * (1 - math.exp(-epoch / 3)) - 0.01 * (epoch == epochs - 1)
        rows.append({"epoch": epoch, "step": step, "val/mAP": score, "val/mAP_50": 1.9 * score,
                     "val/mAP_75": 0.8 * score, "val/mAP_small": -1.0})  # fmt: skip
    return rows


def search_rows(steps=400):
    noise = np.random.default_rng(1)
    rows = []
    for step in range(0, steps, 5):
        loss = 2 * math.exp(-step / 150) + 0.3 + 0.05 * noise.normal()
        rows.append({"step": step, "weight/classification": loss * 0.6, "weight/box": loss * 0.4, "weight/loss": loss})
        if step > steps // 4:
            rows.append({"step": step, "arch/classification": loss * 0.6, "arch/box": loss * 0.4, "arch/cost": 0.1,
                         "arch/loss": loss + 0.1})  # fmt: skip
    for step in range(0, steps + 1, 20):
        done = max(step - steps / 4, 0) / steps
        rows.append({"step": step, "iteration": step, "search/entropy": 1 - 0.7 * done,
                     "search/skip_share": 1 / 7 + 0.3 * done, "search/expected_madds": 3.2e9 - 1.5e9 * done})  # fmt: skip
    return rows


def alpha_rows(choices, iterations=range(0, 401, 20)):
    """`choices`: path -> candidates."""
    rows = []
    for iteration in iterations:
        row = {"iteration": iteration}
        for number, (choice, candidates) in enumerate(choices.items()):
            drift = np.random.default_rng(number).normal(size=len(candidates)) * 2.5 * iteration / 400
            weights = np.exp(drift) / np.exp(drift).sum()
            row |= {f"{choice}/{name}": f"{weight:.6f}" for name, weight in zip(candidates, weights, strict=True)}
        rows.append(row)
    return rows


def fna_choices():
    six = ["k3_e3", "k3_e6", "k5_e3", "k5_e6", "k7_e3", "k7_e6"]
    depths = {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1}
    return {
        f"stages.{stage}.{layer}": six if layer == 0 else [*six, "skip"]
        for stage, depth in depths.items()
        for layer in range(depth)
    }


@pytest.fixture
def config():
    return {"data": {"root": "/data/coco"}, "cost": {"weight": 0.02}, "paths": {"output": "/somewhere"}, "seed": 1}


@pytest.fixture
def fill(config):
    """Make a folder into a whole run directory."""

    def make(folder, entry="train", metrics=COCO, cost=Cost(133_051_234_567, 11_723_456)):
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
