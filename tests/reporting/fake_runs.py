"""The files of search.py and train.py, made up of plausible numbers."""

import csv
import math

import numpy as np

from fna_lightning.costs import Cost

COCO = {
    "mAP": 0.2213, "mAP_50": 0.4401, "mAP_75": 0.1987, "mAP_small": -1.0, "mAP_medium": 0.1764,
    "mAP_large": 0.2891, "mAR_1": 0.1502, "mAR_10": 0.3311, "mAR_100": 0.3608, "mAR_small": -1.0,
    "mAR_medium": 0.31, "mAR_large": 0.4122,
}  # fmt: skip
COST = Cost(133_051_234_567, 11_723_456)


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
        rows.append(
            {"step": step, "weight/classification": loss * 0.6, "weight/box": loss * 0.4, "weight/loss": loss}
        )
        if step > steps // 4:
            rows.append({"step": step, "arch/classification": loss * 0.6, "arch/box": loss * 0.4, "arch/cost": 0.1,
                         "arch/loss": loss + 0.1})  # fmt: skip
    for step in range(0, steps + 1, 20):
        done = max(step - steps / 4, 0) / steps
        state = {"entropy": 1 - 0.7 * done, "skip_share": 0.1 + 0.3 * done, "expected_madds": 3.2e9 - 1.5e9 * done}
        rows.append({"step": step, "iteration": step} | {f"search/{name}": value for name, value in state.items()})
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
