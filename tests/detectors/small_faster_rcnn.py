"""A Faster R-CNN in small, and what its tests feed it."""

import torch

from fna_lightning.detectors import FasterRCNN

SIZE = (128, 192)


def small(backbone, **settings):
    """Torchvision's smooth L1 for the boxes, and weights so large that anchors differ."""
    given = {"fpn_channels": 8, "box_width": 16, "box_beta": 1 / 9, "num_classes": 3}
    network = FasterRCNN(backbone, **{**given, **settings})
    with torch.no_grad():
        for layer in (network.rpn.head.cls_logits, network.rpn.head.bbox_pred):
            layer.weight.normal_(0, 0.3)
        network.box_head.predictor.cls_score.weight.normal_(0, 0.3)
    return network


def random_targets(*counts, num_classes=3):
    boxes, labels = [], []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 70.0, SIZE[0] - 70.0])
        boxes.append(torch.cat([corner, corner + 12 + torch.rand(count, 2) * 55], dim=1))
        labels.append(torch.randint(num_classes, (count,)))
    return boxes, labels


def images(count=2):
    return torch.rand(count, 3, *SIZE) * 255
