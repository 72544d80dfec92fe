from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_faster_rcnn import SIZE, images, random_targets, small
from torch import nn
from torchvision.ops import box_iou

from fna_lightning.costs import Share, count
from fna_lightning.data.batches import DetectionBatch
from fna_lightning.detectors import FasterRCNN
from fna_lightning.errors import ConfigError
from fna_lightning.runs import build
from fna_lightning.tasks import DetectionTask

CONF = Path(__file__).parents[2] / "conf"
TERMS = {"objectness", "proposal", "classification", "box"}


@pytest.fixture(scope="module")
def published(make_backbone):
    """DetNAS's detector on the meta device, over maps of its network's widths."""
    return FasterRCNN(make_backbone((64, 160, 320, 640)), num_classes=80).to("meta")


class TestPublishedSize:
    def test_parameters(self, published):
        """By hand: 3x3 and 1x1 of every part, a scale and a shift a channel of every norm."""
        laterals = (64 + 160 + 320 + 640) * 256 + 4 * 512
        assert sum(p.numel() for p in published.fpn.parameters()) == laterals + 4 * (9 * 256**2 + 512)
        assert sum(p.numel() for p in published.rpn.parameters()) == 9 * 256**2 + 256 + 15 * 257
        linear = 49 * 256 * 1024 + 1024 + 1025 * 81 * 5
        assert sum(p.numel() for p in published.box_head.parameters()) == 4 * (9 * 256**2 + 512) + linear

    def test_level_sizes(self, published):
        outputs = published(torch.empty(1, 3, 800, 1088, device="meta"))
        sizes = [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]
        assert [len(level) for level in outputs.dense.anchors] == [3 * h * w for h, w in sizes]
        assert [tuple(level.shape) for level in outputs.levels.values()] == [(1, 256, *s) for s in sizes[:4]]
        assert outputs.dense.logits.shape == (1, 3 * sum(h * w for h, w in sizes), 1)
        assert outputs.dense.deltas.shape == (*outputs.dense.logits.shape[:2], 4)
        assert outputs.image_size == (800, 1088)

    def test_anchor_loss_never_looks_at_values(self, published):
        # The meta device has no values: whatever would wait for the device fails there.
        outputs = published(torch.empty(2, 3, 64, 64, device="meta"))
        boxes = [torch.empty(5, 4, device="meta"), torch.empty(0, 4, device="meta")]
        labels = [torch.empty(n, dtype=torch.int64, device="meta") for n in (5, 0)]
        sum(published.rpn.loss(outputs.dense, boxes, labels).values()).backward()

    def test_each_proposal_costs_what_its_layers_do(self, published):
        (share,) = count(published, (800, 1088)).shares
        assert share == Share("proposals", 1000, 4 * 49 * 9 * 256**2 + 49 * 256 * 1024 + 1024 * 81 * 5)


@pytest.mark.parametrize(
    "head", [{}, {"box_norm": False}, {"box_convolutions": 0, "box_linears": 2}, {"box_linears": 0}]
)
def test_multiply_adds_are_those_of_a_real_run(tiny_backbone, head, hook_count):
    """Hooks see the box head on every proposal of an image that has as many as it may."""
    network = small(tiny_backbone, test_proposals=20, **head)
    cost = count(network, SIZE)

    class Predicting(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, pixels):
            assert len(self.network.predict(self.network(pixels + images(1)), torch.tensor([SIZE]))) == 1

    assert cost.madds == hook_count(Predicting(), (1, 3, *SIZE))
    assert cost.params == sum(p.numel() for p in network.parameters())
    (share,) = cost.shares
    dense = count(nn.Sequential(Dense(network)), SIZE)
    assert not dense.shares
    assert cost.madds == dense.madds + 20 * share.madds


class Dense(nn.Module):
    """`forward` alone."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        return self.network(pixels)


def test_fresh_box_head(make_backbone):
    network = FasterRCNN(make_backbone(), 3, fpn_channels=16)
    predictor = network.box_head.predictor
    assert predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert network.box_head.layers[0][0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not predictor.cls_score.bias.any()
    linear = network.box_head.layers[5]
    assert linear.weight.abs().max().item() == pytest.approx((3 / linear.in_features) ** 0.5, rel=0.01)


def test_state_dict_names(tiny_backbone):
    assert {name.split(".")[0] for name in small(tiny_backbone).state_dict()} == {
        "backbone",
        "fpn",
        "rpn",
        "box_head",
    }


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (4,)])
def test_images_without_a_box_train_everything_else(tiny_backbone, counts):
    network = small(tiny_backbone)
    terms = network.loss(network(images(len(counts))), *random_targets(*counts))
    assert set(terms) == TERMS
    assert all(value.isfinite() for value in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    if not sum(counts):
        assert terms["proposal"] == terms["box"] == 0
        assert network.box_head.predictor.cls_score.weight.grad.any()


def test_boxes_without_area_are_given_up(tiny_backbone):
    network = small(tiny_backbone)
    boxes = [torch.tensor([[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 60.0, 9.0], [20.0, 20.0, 90.0, 80.0]])]
    terms = network.loss(network(images(1)), boxes, [torch.tensor([0, 1, 2])])
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_nothing_is_proposed_where_numbers_are_none(tiny_backbone):
    network = small(tiny_backbone)
    with torch.no_grad():
        network.rpn.head.bbox_pred.bias.fill_(torch.nan)
    outputs = network(images(2))
    losses = network.loss(outputs, *random_targets(0, 0))
    assert losses["classification"] == losses["box"] == 0
    assert [len(found) for found in network.predict(outputs, torch.tensor([SIZE, SIZE]))] == [0, 0]


def test_the_mode_of_the_network_has_no_say(tiny_backbone):
    """Losses are of training and detections of prediction; norms alone know the mode, and here are none."""
    network = small(tiny_backbone, fpn_norm=False, box_norm=False, train_proposals=30, test_proposals=10).eval()
    outputs, targets = network(images()), random_targets(2, 2)
    terms = []
    for mode in (True, False):
        torch.manual_seed(3)
        terms.append(network.train(mode).loss(outputs, *targets))
    assert all(torch.equal(terms[0][name], terms[1][name]) for name in TERMS)
    found = [network.train(mode).predict(outputs, torch.tensor([SIZE, SIZE])) for mode in (True, False)]
    assert torch.equal(found[0][0].boxes, found[1][0].boxes)


def test_detections(tiny_backbone):
    network = small(tiny_backbone, max_detections=7, score_threshold=0.01).eval()
    sizes = torch.tensor([[100, 150], [128, 192]])
    found = network.predict(network(images()), sizes)
    for each, (height, width) in zip(found, sizes.tolist(), strict=True):
        assert 0 < len(each) <= 7
        assert not each.boxes.requires_grad
        assert each.boxes[:, 2].max() <= width
        assert each.boxes[:, 3].max() <= height
        assert each.boxes.dtype == torch.float32
        assert each.labels.dtype == torch.int64
        assert set(each.labels.tolist()) <= {0, 1, 2}
        assert (each.scores.diff() <= 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(tiny_backbone, dtype):
    network = small(tiny_backbone).to(dtype)
    outputs = network(images())
    terms = network.loss(outputs, *random_targets(2, 0))
    assert all(value.isfinite() for value in terms.values())
    assert all(found.boxes.dtype == torch.float32 for found in network.predict(outputs, torch.tensor([SIZE] * 2)))


def test_mixed_precision(tiny_backbone):
    network = small(tiny_backbone)
    with torch.autocast("cpu", torch.bfloat16):
        terms = network.loss(network(images()), *random_targets(2, 1))
    sum(terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_small_and_uneven_images(tiny_backbone):
    """Strides are the network's own, whatever a map's size is by the image's."""
    network = small(tiny_backbone).eval()
    found = network.predict(network(torch.rand(1, 3, 33, 45) * 255), torch.tensor([[33, 45]]))
    assert found[0].boxes.isfinite().all()


def test_compiled_in_two_pieces(tiny_backbone, monkeypatch):
    network = small(tiny_backbone).eval()
    pixels, sizes = images(), torch.tensor([SIZE, (90, 150)])
    wanted = network.predict(network(pixels), sizes)
    compiled, really = [], nn.Module.compile

    def note(module, **settings):
        compiled.append((module, settings))
        really(module, backend="eager", fullgraph=True, **settings)

    monkeypatch.setattr(nn.Module, "compile", note)
    build.prepare_network(OmegaConf.create({"channels_last": False, "compile": True}), network)
    assert compiled == [(network, {}), (network.box_head, {"dynamic": True})]
    for own, expected in zip(network.predict(network(pixels), sizes), wanted, strict=True):
        torch.testing.assert_close(own.boxes, expected.boxes)


def test_the_dense_part_exports(tiny_backbone):
    network = small(tiny_backbone).eval()
    pixels = images(1)
    exported = torch.export.export(network, (pixels,)).module()(pixels)
    torch.testing.assert_close(exported.dense.logits, network(pixels).dense.logits)


def test_overfits_a_single_image_through_its_task(tiny_backbone):
    network = small(
        tiny_backbone, fpn_channels=16, box_convolutions=1, rpn_samples=64, box_samples=64, train_proposals=100
    )
    boxes, labels = [torch.tensor([[40.0, 30.0, 100.0, 90.0]])], [torch.tensor([2])]
    pixels = torch.zeros(1, 3, *SIZE)
    pixels[0, :, 30:90, 40:100] = 255
    batch = DetectionBatch(pixels, boxes, labels, torch.tensor([SIZE]), torch.tensor([SIZE]), torch.tensor([1]))
    task, optimizer = DetectionTask(), torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(task.losses(network, batch).values()).backward()
        optimizer.step()
    (found,) = task.predict(network, batch)
    assert found.labels[0] == 2
    assert box_iou(found.boxes[:1], boxes[0]).item() > 0.7


def test_what_no_pyramid_fits(make_backbone):
    with pytest.raises(ConfigError, match=r"detector.strides=\[4, 8, 32\]: a pyramid needs each to be twice"):
        small(make_backbone(), features=["2", "3", "7"])
    with pytest.raises(ConfigError, match="num_classes=0"):
        FasterRCNN(make_backbone(), 0)


def test_config_builds_the_default(tiny_backbone):
    config = OmegaConf.load(CONF / "detector" / "faster_rcnn.yaml")
    # The defaults list is Hydra's; the strides are read when the backbone is built.
    del config["defaults"], config["strides"], config["features"]
    network = instantiate(config)(tiny_backbone, num_classes=2)
    default = FasterRCNN(tiny_backbone, num_classes=2)
    assert str(network) == str(default)
    for part, other in zip(network.modules(), default.modules(), strict=True):
        plain = [
            {name: value for name, value in vars(each).items() if isinstance(value, (int, float, tuple))}
            for each in (part, other)
        ]
        assert plain[0] == plain[1]
    assert network.selection == default.selection
