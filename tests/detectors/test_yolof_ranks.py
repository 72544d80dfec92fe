"""Losses of YOLOF in two processes: their mean is the loss of one process with all the images."""

import numpy as np
import torch
import torch.distributed as dist
from small_yolof import images, random_targets, small
from tiny_backbone import TinyBackbone
from two_ranks import in_two

TERMS = ("classification", "box")


def losses(numbers):
    """Of some of three images with boxes of very different number, one of them with none."""
    torch.manual_seed(0)
    network = small(TinyBackbone()).eval()
    pixels, (boxes, labels) = images(3), random_targets(9, 3, 0)
    chosen = [[each[number] for number in numbers] for each in (boxes, labels)]
    terms = network.loss(network(pixels[list(numbers)]), *chosen)
    gradients = torch.autograd.grad(sum(terms.values()), list(network.head.parameters()))
    return [float(terms[name].detach()) for name in TERMS], [gradient.numpy() for gradient in gradients]


def losses_of_rank(rank):
    dist.init_process_group("gloo", init_method="env://", rank=rank, world_size=2)
    found = losses([(0, 1), (2,)][rank])
    dist.destroy_process_group()
    return found


def test_the_mean_of_two_ranks_is_that_of_one_process():
    one, other = in_two(losses_of_rank)
    terms, gradients = losses((0, 1, 2))
    assert other[0][1] == 0
    np.testing.assert_allclose(np.mean([one[0], other[0]], axis=0), terms, rtol=1e-4)
    for ours, wanted in zip([np.mean(p, axis=0) for p in zip(one[1], other[1], strict=True)], gradients,
                            strict=True):  # fmt: skip
        np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=1e-6)
