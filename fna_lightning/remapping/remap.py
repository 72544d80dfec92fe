"""Parameters of one network -> parameters of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.errors import CheckpointError
from fna_lightning.remapping.placing import NO_SOURCE, Placed, place_seed, place_supernet
from fna_lightning.remapping.plan import no_rule, plan_from_seed
from fna_lightning.remapping.report import OWN, TAKEN, ZERO, Entry, RemapReport
from fna_lightning.remapping.strategies import strategy_named


@torch.no_grad()
def remap(
    seed: Seed | None,
    target: nn.Module,
    strategy: str = "fna",
    supernet_state: Mapping[str, Tensor] | None = None,
    grow: str | None = None,
) -> RemapReport:
    """Carry parameters over to `target`, which is changed in place.

    Args:
        seed: the trained network; None leaves it out.
        target: a backbone, a supernet or a head.
        strategy: a name of `STRATEGIES`; `random` changes nothing.
        supernet_state: of a trained supernet, whose path `target` is: its tensors go over one to one,
            after those of the seed, so that with both the norms of searched layers are the seed's
            (spec FNA 5.4). Statistics should be estimated anew then.
        grow: what channels become that the seed has no more of, see `Strategy`; None as the strategy says.

    Returns:
        Where each tensor of the target came from.

    Raises:
        CheckpointError: where tensors are missing or do not fit the seed's architecture.
        ConfigError: for an unknown strategy, where seed and target are of two kinds, or where stages differ.
    """
    rule = strategy_named(strategy, grow)
    placed: Placed = {}
    computed: dict[str, str] = {}
    dead: dict[str, int] = {}
    if rule is not None and seed is not None:
        network = structure_of(seed)
        if plan_from_seed.dispatch(type(network)) is not plan_from_seed.dispatch(type(target)):
            raise no_rule(target, seed)
        plan = plan_from_seed(target, seed, network, rule)
        placed |= place_seed(plan, seed, target.state_dict(), rule)
        computed = {move.tensors(*of)[1]: how for move in plan for of, (_, how) in move.computed.items()}
        dead = {move.tensors("conv", "weight")[1]: move.dead for move in plan if move.dead}
    if rule is not None and supernet_state is not None:
        found = place_supernet(target, supernet_state)
        placed |= found
        computed = {name: how for name, how in computed.items() if name not in found}
        dead = {name: number for name, number in dead.items() if name not in found}
    states = (supernet_state or {}, seed.state if seed else {})
    entries = tuple(
        replace(_entry(name, tensor, placed, states, computed.get(name)), dead=dead.get(name, 0))
        for name, tensor in target.state_dict().items()
    )
    target.load_state_dict({name: value for name, (_, value) in placed.items()}, strict=False)
    return RemapReport(seed.source if seed else "", strategy, entries)


def structure_of(seed: Seed) -> Backbone:
    """The seed's whole network without numbers, whose shapes its tensors must have.

    Raises:
        CheckpointError: where they have not.
    """
    maps = [level.name for level in seed.architecture.levels() if level.form != "expand"]
    with torch.device("meta"):
        network = build_backbone(seed.architecture, maps)
    expected = network.state_dict()
    for name, tensor in seed.state.items():
        if name not in expected:
            raise CheckpointError(f"{seed.source or 'the seed'}: {name} has no place in the seed's architecture")
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{seed.source or 'the seed'}: {name} is {tuple(tensor.shape)}, "
                f"but the seed's architecture wants {tuple(expected[name].shape)}"
            )
    return network


def _entry(
    name: str, own: Tensor, placed: Placed, states: Sequence[Mapping[str, Tensor]], computed: str | None
) -> Entry:
    if name not in placed:
        return Entry(name, tuple(own.shape), "", (), OWN)
    source, _ = placed[name]
    if source == NO_SOURCE:
        return Entry(name, tuple(own.shape), "", (), ZERO)
    shape = next(state[source].shape for state in states if source in state)
    how = computed or (TAKEN if shape == own.shape else "resized")
    return Entry(name, tuple(own.shape), source, tuple(shape), how)
