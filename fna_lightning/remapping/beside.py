"""The seed's network beside its target: what it knows of the pictures, and what remapping made of its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Backbone, InvertedResidual, untracked
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices, Supernet
from fna_lightning.errors import ConfigError
from fna_lightning.remapping.moments import measure_moments
from fna_lightning.remapping.remap import structure_of

_OPTIONAL = "num_batches_tracked"


def seed_network(seed: Seed, target: Backbone) -> Backbone | None:
    """The seed's network with its parameters, in training mode, as far as `target` goes and with its dilations.

    Returns:
        None where the seed has no such maps.

    Raises:
        CheckpointError: where its tensors are not those of its architecture.
    """
    structure_of(seed)
    try:
        network = build_backbone(
            seed.architecture, list(target.out_channels), output_stride=max(target.strides.values())
        )
    except ConfigError:
        return None
    wanted = [name for name in network.state_dict() if name in seed.state or not name.endswith(_OPTIONAL)]
    network.load_state_dict({name: seed.tensor(name) for name in wanted}, strict=False)
    return network.to(next(target.parameters()).device).train()


def with_moments(seed: Seed, network: Backbone, images: Sequence[Tensor]) -> Seed:
    """`seed` with the moments of what its projections read, see `fna_lightning.remapping.Strategy.refit`.

    Args:
        seed: the trained network.
        network: its `seed_network`.
        images: (N, 3, H, W) each, normalised.
    """
    readers = {
        f"{name}.project": module.project.conv
        for name, module in network.named_modules()
        if isinstance(module, InvertedResidual)
    }
    return replace(seed, moments=measure_moments(network, images, readers) if readers else {})


@torch.no_grad()
def differences(seed: Seed, network: Backbone, target: Backbone, images: Sequence[Tensor]) -> dict[str, float]:
    """How far the maps of `target` are from the seed's before training.

    Args:
        seed: the trained network.
        network: its `seed_network`.
        target: with the seed's parameters remapped into it; of a supernet the path of its architecture runs.
        images: (N, 3, H, W) each, normalised. Norms take their statistics from these, as in training.

    Returns:
        Root mean square of the difference over that of the seed's map, by the map's name; of a supernet without
        such a path, and of maps of other shapes, none.
    """
    if len(Choices(target)):
        path = target.path_of(seed.architecture) if isinstance(target, Supernet) else None
        if path is None:
            return {}
        Choices(target).set_path(path)
    sums: dict[str, list[float]] = {}
    training = target.training
    target.train()
    with untracked(target):
        for batch in images:
            theirs, ours = network(batch), target(batch)
            for name in (name for name in ours if ours[name].shape == theirs[name].shape):
                squares = ((ours[name] - theirs[name]).square().mean(), theirs[name].square().mean())
                sums[name] = [a + float(b) for a, b in zip(sums.get(name, [0.0, 0.0]), squares, strict=True)]
    target.train(training)
    return {name: (off / max(whole, 1e-12)) ** 0.5 for name, (off, whole) in sums.items()}
