"""An SSDLite in small, and what its tests feed it."""

import torch

from fna_lightning.detectors import SSDLite

SIZE = (96, 128)


def small(backbone, **settings):
    given = {"extra_channels": (12, 8), "anchor_ratios": ((2,), (2, 3), (2,), (2,)), "anchor_base": 100}
    return SSDLite(backbone, num_classes=3, **{**given, **settings})


def random_targets(*counts, num_classes=3):
    boxes, labels = [], []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 60.0, SIZE[0] - 60.0])
        boxes.append(torch.cat([corner, corner + 10 + torch.rand(count, 2) * 50], dim=1))
        labels.append(torch.randint(num_classes, (count,)))
    return boxes, labels


def loud(outputs, scale=2.0):
    """Outputs of a network that has opinions, unlike a fresh one."""
    return outputs._replace(
        logits=torch.randn_like(outputs.logits) * scale, deltas=torch.randn_like(outputs.deltas)
    )


def images(count=2):
    return torch.rand(count, 3, *SIZE) * 255
