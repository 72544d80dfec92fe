"""Faster R-CNN beside torchvision's on the same weights, maps and images: losses, proposals, detections."""

import pytest
import torch
from small_faster_rcnn import SIZE, images, random_targets, small
from torch import nn
from torchvision.models.detection import FasterRCNN as ReferenceFasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from fna_lightning.detectors.matching import AnchorTargets, sample

CLASSES = 3
HEADS = {
    "4conv1fc": {"box_convolutions": 4, "box_linears": 1},
    "two linear layers": {"box_convolutions": 0, "box_linears": 2, "fpn_norm": False, "box_norm": False},
}
EVERYTHING = 10**6
every_head = pytest.mark.parametrize("settings", HEADS.values(), ids=HEADS)


class OurDraws:
    """`sample` where torchvision calls its own sampler: the same random numbers, in the order of our loss."""

    def __init__(self, number, share, together):
        self.number, self.share, self.together = number, share, together

    def __call__(self, labels):
        groups = [torch.stack(labels)] if self.together else [each[None] for each in labels]
        masks = torch.cat([self.drawn(group) for group in groups]) if self.together else map(self.drawn, groups)
        masks = [mask.view(-1) for mask in masks]
        found = [mask & (each >= 1) for mask, each in zip(masks, labels, strict=True)]
        return found, [mask & (each == 0) for mask, each in zip(masks, labels, strict=True)]

    def drawn(self, labels):
        nothing = torch.zeros(())
        return sample(AnchorTargets(labels >= 1, labels >= 0, nothing, nothing), self.number, self.share)


class Maps(nn.Module):
    """Torchvision's view of our backbone and pyramid."""

    def __init__(self, network):
        super().__init__()
        self.network, self.out_channels = network, network.fpn_channels

    def forward(self, x):
        return dict(zip("0123p", self.network.fpn(self.network.maps(x)).values(), strict=True))


def reference(network, **settings):
    """Torchvision's detector with the weights of ours."""
    channels, width = network.fpn_channels, network.box_head.predictor.cls_score.in_features
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.box_head.modules())
    norm = nn.BatchNorm2d if convolutions else None
    if convolutions:
        head = FastRCNNConvFCHead((channels, 7, 7), [channels] * convolutions, [width], norm)
        head.load_state_dict(network.box_head.layers.state_dict())
    else:
        head = TwoMLPHead(channels * 49, width)
        names = ["fc6.weight", "fc6.bias", "fc7.weight", "fc7.bias"]
        head.load_state_dict(dict(zip(names, network.box_head.layers.state_dict().values(), strict=True)))
    predictor = FastRCNNPredictor(width, CLASSES + 1)
    predictor.load_state_dict(network.box_head.predictor.state_dict())
    model = ReferenceFasterRCNN(
        Maps(network),
        rpn_anchor_generator=AnchorGenerator(((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5),
        box_roi_pool=MultiScaleRoIAlign(list("0123"), 7, 2),
        box_head=head,
        box_predictor=predictor,
        **settings,
    )
    model.rpn.head.load_state_dict(network.rpn.head.state_dict())
    return model


def run_reference(model, pixels, sizes, targets=None):
    """Proposals, detections and losses, without torchvision's resizing."""
    maps = model.backbone(pixels)
    listed = ImageList(pixels, sizes)
    proposals, losses = model.rpn(listed, maps, targets)
    found, more = model.roi_heads(maps, proposals, sizes, targets)
    return proposals, found, {**losses, **more}


def losses_of(network, boxes, labels, pixels):
    terms = network.loss(network(pixels), boxes, labels)
    return [terms[name] for name in ("objectness", "proposal", "classification", "box")]


def assert_same_losses(network, model, pixels, boxes, labels):
    torch.manual_seed(5)
    ours = losses_of(network, boxes, labels, pixels)
    gradients = torch.autograd.grad(sum(ours), list(network.fpn.parameters()))
    torch.manual_seed(5)
    targets = [{"boxes": b, "labels": k + 1} for b, k in zip(boxes, labels, strict=True)]
    _, _, terms = run_reference(model, pixels, [SIZE] * len(pixels), targets)
    wanted = [terms[f"loss_{name}"] for name in ("objectness", "rpn_box_reg", "classifier", "box_reg")]
    torch.testing.assert_close(torch.stack(ours), torch.stack(wanted))
    expected = torch.autograd.grad(sum(wanted), list(network.fpn.parameters()))
    torch.testing.assert_close(gradients, expected, rtol=1e-3, atol=1e-5)
    assert all(value > 0 for value in ours)


@every_head
def test_losses_of_all_anchors_and_proposals(tiny_backbone, settings):
    """With torchvision's own sampler, which then has nothing to choose."""
    network = small(tiny_backbone, rpn_samples=EVERYTHING, box_samples=EVERYTHING, **settings)
    own = {"rpn_batch_size_per_image": EVERYTHING, "box_batch_size_per_image": EVERYTHING}
    model = reference(network, rpn_post_nms_top_n_train=1000, **own)
    assert_same_losses(network.train(), model.train(), images(3), *random_targets(3, 1, 6))


@every_head
def test_losses_of_those_that_are_drawn(tiny_backbone, settings):
    network = small(tiny_backbone, **settings)
    model = reference(network, rpn_post_nms_top_n_train=1000)
    model.rpn.fg_bg_sampler = OurDraws(256, 0.5, together=True)
    model.roi_heads.fg_bg_sampler = OurDraws(512, 0.25, together=False)
    assert_same_losses(network.train(), model.train(), images(3), *random_targets(3, 1, 6))


def test_losses_where_an_image_has_no_box(tiny_backbone):
    network = small(tiny_backbone, rpn_samples=EVERYTHING, box_samples=EVERYTHING)
    own = {"rpn_batch_size_per_image": EVERYTHING, "box_batch_size_per_image": EVERYTHING}
    model = reference(network, rpn_post_nms_top_n_train=1000, **own)
    assert_same_losses(network.train(), model.train(), images(3), *random_targets(0, 4, 0))


@every_head
def test_proposals_and_detections(tiny_backbone, settings, randomise):
    network = randomise(small(tiny_backbone, **settings)).eval()
    model = reference(network).eval()
    pixels, sizes = images(3), [SIZE, (100, 180), (128, 97)]
    outputs = network(pixels)
    proposals = network.rpn.propose(outputs.dense, sizes, 1000, 1000)
    detections = network.predict(outputs, torch.tensor(sizes))
    with torch.no_grad():
        wanted, found, _ = run_reference(model, pixels, sizes)
    for own, expected in zip(proposals, wanted, strict=True):
        assert len(own) > 50
        torch.testing.assert_close(own, expected)
    assert sum(map(len, detections)) > 20
    for own, expected in zip(detections, found, strict=True):
        torch.testing.assert_close(own.boxes, expected["boxes"], rtol=1e-4, atol=1e-2)
        torch.testing.assert_close(own.scores, expected["scores"], rtol=1e-4, atol=1e-5)
        assert torch.equal(own.labels, expected["labels"] - 1)
