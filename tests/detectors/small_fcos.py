"""An FCOS in small, and what its tests feed it."""

import torch

from fna_lightning.detectors import FCOS

SIZE = (96, 128)


def small(backbone, **settings):
    return FCOS(backbone, num_classes=3, **{"fpn_channels": 8, "head_depth": 1, **settings})


def random_targets(*counts, num_classes=3, largest=50):
    boxes, labels = [], []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 10.0 - largest, SIZE[0] - 10.0 - largest])
        boxes.append(torch.cat([corner, corner + 10 + torch.rand(count, 2) * largest], dim=1))
        labels.append(torch.randint(num_classes, (count,)))
    return boxes, labels


def loud(outputs, scale=2.0):
    """Outputs of a network that has opinions, unlike a fresh one; some distances are below 0."""
    return outputs._replace(
        logits=torch.randn_like(outputs.logits) * scale,
        distances=torch.randn_like(outputs.distances) + 1.5,
        centerness=torch.randn_like(outputs.centerness),
    )


def images(count=2):
    return torch.rand(count, 3, *SIZE) * 255
