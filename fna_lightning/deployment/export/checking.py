"""Whether an exported file computes what the network does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fna_lightning.deployment.export.examples import Example
from fna_lightning.deployment.export.graphs import Boxes, Graph, Pixels
from fna_lightning.detectors import Detections
from fna_lightning.segmenters import Inference, Segmenter

TOLERANCE = 1e-4
"""Largest difference, relative to the number where that is more than 1; of boxes to their largest coordinate."""


@dataclass(frozen=True)
class Comparison:
    """How the file's outputs compare with the network's, on one batch of pictures."""

    name: str
    """Of the pictures."""
    size: tuple[int, int]
    """Height and width of the batch."""
    what: str
    """That was compared, such as `12 boxes`."""
    difference: float
    """The largest of all numbers, see `TOLERANCE`; infinite where shapes differ."""
    alone: int
    """Boxes or pixels that only one of the two finds, or in another class."""

    @property
    def holds(self) -> bool:
        """Whether the two are the same."""
        return self.difference <= TOLERANCE and not self.alone


def compare(graph: Graph[Any], example: Example, found: Sequence[Tensor]) -> Comparison:
    """Hold what a file gives for some pictures against what the network gives in torch.

    Of boxes and labels the network's own prediction counts, of everything else the graph.
    """
    size = (example.images.shape[-2], example.images.shape[-1])
    with torch.no_grad():
        if isinstance(graph, Boxes):
            return Comparison(example.name, size, *_boxes(graph, example, found))
        if isinstance(graph, Pixels) and isinstance(graph.network, Segmenter):
            wanted = Inference().probabilities(graph.network, example.images)
            return Comparison(example.name, size, *_pixels(wanted, *found))
        wanted = graph(*example.inputs(graph.inputs).values())
    differences = [largest(one, other) for one, other in zip(found, wanted, strict=True)]
    return Comparison(example.name, size, ", ".join(graph.outputs), max(differences), 0)


def largest(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the wanted number where that is more than 1."""
    if found.shape != wanted.shape:
        return torch.inf
    if not found.numel():
        return 0.0
    difference = (found.double() - wanted.double()).abs() / wanted.double().abs().clamp(min=1)
    return difference.nan_to_num(torch.inf).max().item()


def _pixels(wanted: Tensor, labels: Tensor, probabilities: Tensor) -> tuple[str, float, int]:
    """Labels may differ where two classes are equally likely, within the tolerance."""
    difference = largest(probabilities, wanted)
    if labels.shape != wanted[:, 0].shape:
        return "labels", torch.inf, 0
    chosen = wanted.gather(1, labels.long()[:, None])[:, 0]
    other = int((chosen < wanted.amax(dim=1) - 2 * TOLERANCE).sum())
    return f"{labels.numel()} pixels", difference, other


def _boxes(graph: Boxes[Any], example: Example, found: Sequence[Tensor]) -> tuple[str, float, int]:
    network, rule = graph.network, graph.network.selection
    wanted = network.predict(network(example.images), example.sizes)
    count, difference, alone = 0, 0.0, 0
    for boxes, scores, labels, own in zip(*found, wanted, strict=True):
        there = labels >= 0
        one = Detections(boxes[there], scores[there], labels[there])
        least = _least(own, rule.score_threshold, rule.max_detections)
        worst, unmatched = match(one, own, least)
        count, difference, alone = count + len(own), max(difference, worst), alone + unmatched
    return f"{count} boxes", difference, alone


def _least(found: Detections, threshold: float, most: int) -> float:
    """The score above which a box is there; that of the last one, where only so many are kept."""
    return max(threshold, found.scores[-1].item() if len(found) == most else threshold)


def match(one: Detections, other: Detections, least: float) -> tuple[float, int]:
    """Pair the boxes of one image that are the same within the tolerance.

    Args:
        one: of the file.
        other: of the network.
        least: score at which a box is there or not by a rounding.

    Returns:
        The largest difference within pairs, and how many boxes have no partner though their score exceeds `least`
        by more than the tolerance.
    """
    # A small coordinate is a large one, the anchor's, less a large shift.
    scale = other.boxes.abs().amax(dim=1, keepdim=True).clamp(min=1)
    difference = ((one.boxes[:, None] - other.boxes) / scale).abs().amax(dim=2)
    difference = difference.maximum((one.scores[:, None] - other.scores).abs())
    difference = torch.where(one.labels[:, None] == other.labels, difference, torch.inf)
    worst, left, free = 0.0, torch.ones(len(one), dtype=torch.bool), torch.ones(len(other), dtype=torch.bool)
    for row in range(len(one)):
        near = torch.where(free, difference[row], torch.inf)
        if len(other) and near.min() <= TOLERANCE:
            worst = max(worst, near.min().item())
            left[row], free[near.argmin()] = False, False
    scores = torch.cat([one.scores[left], other.scores[free]])
    return worst, int((scores > least + TOLERANCE).sum())
