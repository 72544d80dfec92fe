"""Networks as graphs from pictures to tensors: what an exported file computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from fna_lightning.blocks import Network
from fna_lightning.deployment.export.suppression import NO_LABEL, Suppress, best, clip, thick
from fna_lightning.detectors import FCOS, FasterRCNN
from fna_lightning.detectors.dense import DenseDetector
from fna_lightning.detectors.faster_rcnn import SMALLEST
from fna_lightning.detectors.postprocess import ScoredBoxes
from fna_lightning.detectors.proposals import SMALLEST as SMALLEST_PROPOSAL
from fna_lightning.errors import ConfigError
from fna_lightning.segmenters import Segmenter, resize_logits

Part = Literal["backbone", "raw", "network"]
NetworkT = TypeVar("NetworkT", bound=Network)
BoxesT = TypeVar("BoxesT", DenseDetector, FasterRCNN)


class Graph(nn.Module, Generic[NetworkT]):
    """A part of a network whose inputs and outputs are tensors alone; normalisation is inside.

    Attributes:
        inputs: names; `images` are (N, 3, H, W) uint8, RGB, and `sizes` (N, 2) int64 the height and width of every
            picture inside the padding.
        outputs: names, in the order in which `forward` returns them.
    """

    inputs: ClassVar[tuple[str, ...]] = ("images",)
    outputs: tuple[str, ...]

    def __init__(self, network: NetworkT) -> None:
        super().__init__()
        self.network = network


class FeatureMaps(Graph[Network]):
    """The backbone's maps, shallow first: `map_<name>` (N, C, H / stride, W / stride)."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.outputs = tuple(f"map_{name}" for name in network.backbone.out_channels)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Graph`."""
        return tuple(self.network.maps(images).values())


class RawAnchors(Graph[DenseDetector]):
    """What is predicted for A anchors, not decoded.

    `logits` (N, A, K), SSDLite's with a column for the background before them; `deltas` (N, A, 4): shift of the
    centre and log of the growth; `anchors` (A, 4).
    """

    outputs = ("logits", "deltas", "anchors")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Graph`."""
        *predicted, grid = self.network(images)
        return (*predicted, torch.cat(grid))


class RawLocations(RawAnchors):
    """What is predicted at A locations, not decoded.

    `logits` (N, A, K); `distances` (N, A, 4) to a box's left, top, right and bottom side, in strides;
    `centerness` (N, A), a logit; `locations` (A, 2): x, y in pixels.
    """

    outputs = ("logits", "distances", "centerness", "locations")


class RawProposals(Graph[FasterRCNN]):
    """What Faster R-CNN makes proposals of, and cuts them out of.

    `logits` (N, A, 1) and `deltas` (N, A, 4) of A `anchors` (A, 4), and the pyramid, `level_<name>`
    (N, C, H / stride, W / stride).
    """

    def __init__(self, network: FasterRCNN) -> None:
        super().__init__(network)
        self.outputs = ("logits", "deltas", "anchors", *(f"level_{name}" for name in network.features))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Graph`."""
        found = self.network(images)
        return found.dense.logits, found.dense.deltas, torch.cat(found.dense.anchors), *found.levels.values()


class RawPixels(Graph[Segmenter]):
    """`logits` (N, K, h, w) at the stride of the head."""

    outputs = ("logits",)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Graph`."""
        return (self.network(images),)


class Pixels(Graph[Segmenter]):
    """`labels` (N, H, W) uint8, and `probabilities` (N, K, H, W) of every class, at the images' size."""

    outputs = ("labels", "probabilities")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See `Graph`."""
        probabilities = resize_logits(self.network(images), images.shape[-2:]).softmax(dim=1)
        return probabilities.argmax(dim=1).to(torch.uint8), probabilities


class Boxes(Graph[BoxesT], ABC):
    """Detections of every image, best first, in as many rows as the detector finds boxes at most, D.

    `boxes` (N, D, 4): x1, y1, x2, y2 in pixels of the images, clipped to the picture inside the padding; `scores`
    (N, D); `labels` (N, D) int64. Rows behind the last detection have score 0 and label -1.
    """

    inputs = ("images", "sizes")
    outputs = ("boxes", "scores", "labels")

    def __init__(self, network: BoxesT, suppress: Suppress) -> None:
        super().__init__(network)
        self.suppress = suppress

    @abstractmethod
    def candidates(self, images: Tensor, sizes: Tensor) -> ScoredBoxes:
        """What may be a detection, clipped; what cannot be one scores 0."""

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """See `Graph`."""
        found, rule = self.candidates(images, sizes), self.network.selection
        eligible = found.scores > rule.score_threshold
        classes, most = self.network.num_classes, rule.max_detections
        return tuple(best(found, eligible, classes, rule.nms_threshold, most, self.suppress))


class DenseBoxes(Boxes[DenseDetector]):
    """`Boxes` of a detector that has no second stage."""

    def candidates(self, images: Tensor, sizes: Tensor) -> ScoredBoxes:
        """See `Boxes.candidates`."""
        found = self.network.scored_boxes(self.network(images))
        return found._replace(boxes=clip(found.boxes, sizes))


class ProposedBoxes(Boxes[FasterRCNN]):
    """`Boxes` of Faster R-CNN, whose second stage sees `test_proposals` of every image."""

    def candidates(self, images: Tensor, sizes: Tensor) -> ScoredBoxes:
        """See `Boxes.candidates`."""
        outputs, network = self.network(images), self.network
        offered = network.rpn.candidates(outputs.dense, network.test_candidates)
        offered = offered._replace(boxes=clip(offered.boxes, sizes))
        proposals = best(
            offered, thick(offered.boxes, SMALLEST_PROPOSAL), len(outputs.dense.anchors),
            network.rpn.nms_threshold, network.test_proposals, self.suppress,
        )  # fmt: skip
        image = torch.arange(images.shape[0], device=images.device, dtype=torch.float32)
        image = image[:, None, None].expand(-1, network.test_proposals, -1)
        judged = network.judge(outputs, torch.cat([image, proposals.boxes], dim=2).flatten(0, 1))
        found = ScoredBoxes(*(each.unflatten(0, (-1, network.test_proposals)) for each in judged))
        boxes = clip(found.boxes, sizes)
        eligible = thick(boxes, SMALLEST) & (proposals.labels != NO_LABEL)[..., None]
        return ScoredBoxes(boxes, torch.where(eligible, found.scores, 0.0), found.labels)


def graph_of(network: Network, part: Part, suppress: Suppress) -> Graph[Any]:
    """What a part of a network computes.

    Args:
        network: in evaluation mode.
        part: `backbone`; `raw` for what the network predicts, not decoded; `network` for boxes or labels.
        suppress: how boxes are suppressed.

    Raises:
        ConfigError: networks of this kind have no such graph.
    """
    if part == "backbone":
        return FeatureMaps(network)
    if isinstance(network, Segmenter):
        return RawPixels(network) if part == "raw" else Pixels(network)
    if isinstance(network, FasterRCNN):
        return RawProposals(network) if part == "raw" else ProposedBoxes(network, suppress)
    if isinstance(network, DenseDetector):
        raw = RawLocations if isinstance(network, FCOS) else RawAnchors
        return raw(network) if part == "raw" else DenseBoxes(network, suppress)
    raise ConfigError(f"part={part}: {type(network).__name__} is exported as its backbone alone; part=backbone")
