"""Losses of Faster R-CNN in two processes: their mean is the loss of one process with all the images."""

import numpy as np
import torch
import torch.distributed as dist
from small_faster_rcnn import images, random_targets, small
from tiny_backbone import TinyBackbone
from two_ranks import in_two

EVERYTHING = 10**6
TERMS = ("objectness", "proposal", "classification", "box")


def losses(numbers):
    """Of some of three images with boxes of very different number; all anchors and proposals are drawn."""
    torch.manual_seed(0)
    network = small(
        TinyBackbone(), fpn_norm=False, box_norm=False, rpn_samples=EVERYTHING, box_samples=EVERYTHING
    ).eval()
    pixels, (boxes, labels) = images(3), random_targets(9, 0, 1)
    chosen = [each[number] for number in numbers for each in (boxes, labels)]
    terms = network.loss(network(pixels[list(numbers)]), chosen[::2], chosen[1::2])
    gradients = torch.autograd.grad(sum(terms.values()), list(network.fpn.parameters()))
    return [float(terms[name].detach()) for name in TERMS], [gradient.numpy() for gradient in gradients]


def losses_of_rank(rank):
    dist.init_process_group("gloo", init_method="env://", rank=rank, world_size=2)
    found = losses([(0, 1), (2,)][rank])
    dist.destroy_process_group()
    return found


def test_the_mean_of_two_ranks_is_that_of_one_process():
    one, other = in_two(losses_of_rank)
    terms, gradients = losses((0, 1, 2))
    np.testing.assert_allclose(np.mean([one[0], other[0]], axis=0), terms, rtol=1e-4)
    # A batch of another size is rounded differently, by which a box at a threshold may be kept or not.
    ours, wanted = (np.concatenate([each.ravel() for each in group]) for group in (
        [np.mean(parts, axis=0) for parts in zip(one[1], other[1], strict=True)], gradients))  # fmt: skip
    assert np.linalg.norm(ours - wanted) <= 1e-3 * np.linalg.norm(wanted)
