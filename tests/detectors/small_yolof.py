"""A YOLOF in small, and what its tests feed it: 3 x 4 cells of 5 anchors."""

import torch

from fna_lightning.detectors import YOLOF

SIZE = (96, 128)


def small(backbone, **settings):
    return YOLOF(backbone, num_classes=3, **{"channels": 8, "block_channels": 4, **settings})


def random_targets(*counts, num_classes=3, largest=60):
    boxes, labels = [], []
    for count in counts:
        corner = torch.rand(count, 2) * torch.tensor([SIZE[1] - 10.0 - largest, SIZE[0] - 10.0 - largest])
        boxes.append(torch.cat([corner, corner + 10 + torch.rand(count, 2) * largest], dim=1))
        labels.append(torch.randint(num_classes, (count,)))
    return boxes, labels


def loud(outputs, scale=2.0):
    """Outputs of a network that has opinions, unlike a fresh one; some centres are beyond the clamp."""
    return outputs._replace(
        logits=(torch.randn_like(outputs.logits) * scale).requires_grad_(),
        deltas=(torch.randn_like(outputs.deltas) * 0.5).requires_grad_(),
    )


def images(count=2):
    return torch.rand(count, 3, *SIZE) * 255
