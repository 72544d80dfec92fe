"""The lists that every contract runs over: a new space or search adds a line here, and changes no test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from random_search import RandomSearch
from torch import nn
from tower import PyramidClassifier, TowerArchitecture, TowerSpace
from widths import WidthArchitecture, WidthSpace

from fna_lightning.architectures import (
    Architecture,
    MobileArchitecture,
    ResNetArchitecture,
    load_architecture,
    parse_architecture,
)
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.blocks import Network
from fna_lightning.choices import Choices
from fna_lightning.costs import CostTable, Limits, Quantity, tabulate
from fna_lightning.modules import ParameterGroups, StepGuard, searched_part
from fna_lightning.schedules import multistep
from fna_lightning.search import CostObjective
from fna_lightning.searches import Bilevel, Evolution, Search, SearchJob
from fna_lightning.supernets import MobileSpace, ShuffleSpace, build_supernet, follow_widths
from fna_lightning.tasks import ClassificationTask

SIZE = (32, 32)
CLASSES = 3
SMALL = parse_architecture(
    "[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k3_e3', 'k3_e3'], 2]|[[8, 10], ['k3_e3', 'k3_e3', 'k3_e3'], 2]"
)
# Xception blocks, from which a block of any operation has all of its parameters.
XCEPTION = parse_architecture("shuffle detnas_supernet: 4 | 8: 33 | 12: 3 | 16: 3 | 16")


@dataclass(frozen=True)
class System:
    """A space in its network.

    Attributes:
        space: what is searched.
        base: the architectures of all parts, before the search.
        around: builds the network around a backbone; takes `head` where the system has one.
        maps: what `around` reads of the backbone.
    """

    space: Any
    base: Mapping[str, Architecture]
    around: Callable[..., Network] = Classifier
    maps: tuple[int, ...] = (3,)

    def searched(self) -> Network:
        """The network with choices."""
        torch.manual_seed(1)
        if self.space.part == "backbone":
            network = self.around(build_supernet(self.space, self.maps), CLASSES)
            follow_widths(network)
            return network
        return self.around(build_backbone(self.base["backbone"], self.maps), CLASSES, head=self.space)

    def rebuilt(self, parts: Mapping[str, Architecture]) -> Network:
        """The network of fixed architectures."""
        head = {"head": parts["head"]} if "head" in parts else {}
        return self.around(build_backbone(parts["backbone"], self.maps), CLASSES, **head)

    def derived(self, network: Network, path: list[int]) -> Network:
        """The network that `path` of `network` stands for."""
        return self.rebuilt({**self.base, **Choices(searched_part(network)).derive(path)})


SYSTEMS = {
    "fna": System(MobileSpace(SMALL, {2: 2, 3: 2}, ("k3_e2", "k5_e3")), {"backbone": SMALL}),
    "naa": System(
        MobileSpace(SMALL, {2: 1, 3: 1}, ("k3_e2", "k5_e3"), widths={2: (4, 8), 3: (6, 10, 12)}, width_divisor=2),
        {"backbone": SMALL},
    ),
    "detnas": System(ShuffleSpace(XCEPTION, ("shuffle_5x5", "xception_3x3")), {"backbone": XCEPTION}),
    "tower": System(TowerSpace(), {"backbone": SMALL}, PyramidClassifier, (2, 3)),
    "widths": System(WidthSpace(), {"backbone": WidthArchitecture((8, 12))}),
}

_sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-4)
_schedule = partial(multistep, milestones=[3], warmup_steps=2)
_bilevel = partial(
    Bilevel,
    augment_weight_half=True,
    warmup_epochs=1,
    weight_steps=1,
    temperature=1.0,
    clip_weights=35,
    clip_architecture=35,
    log_every=2,
    weights=_sgd,
    schedule=_schedule,
    architecture=partial(torch.optim.Adam, lr=0.05),
)
SEARCHES: dict[str, Callable[[], Search]] = {
    "bilevel": lambda: _bilevel(share=0.5),
    # As FAD searches, by DARTS's second order.
    "mixture": lambda: _bilevel(share=0.0, weights_on="mixture", order=2, derive="raw"),
    "evolution": lambda: Evolution(
        share=0.3,
        generations=2,
        population=3,
        parents=2,
        mutations=1,
        crossovers=1,
        mutation_rate=0.3,
        statistics_batches=1,
        supernet=None,
        cost_bins=None,
        clip_weights=35,
        weights=_sgd,
        schedule=_schedule,
    ),
    "random": lambda: RandomSearch(4, _sgd, _schedule),
}

ARCHITECTURES: list[Architecture] = [
    SMALL,
    MobileArchitecture.from_text("[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k5_e3', 'skip'], 2]"),
    MobileArchitecture.from_text(
        "[[8, 8], ['k9_e1'], 1, 'no_residual']|[[8, 8], ['k3_e9'], 2]|[[8, 12], ['conv_2d_1x1'], 1]"
    ),
    XCEPTION,
    parse_architecture("shuffle mmrazor: 6 | 8: 021 | 8: 3 | 10"),
    TowerArchitecture((1, 5)),
    WidthArchitecture((4, 6)),
    ResNetArchitecture("basic", (1, 1, 1, 1)),
    ResNetArchitecture("bottleneck", (1, 2, 1, 1), 4, 8),
    load_architecture("fad"),
]


def table_of(network: Network, quantity: Quantity = "madds") -> CostTable:
    """What the paths of the whole network cost."""
    return tabulate(network, SIZE, quantity)


def job_of(
    system: System,
    data: Any,
    folder: Any,
    trainer: Callable[[], Any],
    limit: float | None = None,
    resume: Any = None,
    record: SimpleNamespace | None = None,
) -> SearchJob:
    """A job as a run would give it; the module that is trained is left in `record`."""
    network = system.searched()
    cost = table_of(network)

    def fit(module: Any, data: Any, callbacks: Any = ()) -> None:
        trainer_ = trainer()
        trainer_.callbacks.extend(callbacks)
        if record is not None:
            record.module = module
        trainer_.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)

    return SearchJob(
        network=network,
        task=ClassificationTask(),
        data=data,
        parts=system.base,
        cost=cost,
        limit=limit,
        limits=Limits([] if limit is None else [(cost, limit)]),
        objective=CostObjective(0.1),
        groups=ParameterGroups(),
        guard=StepGuard(),
        random_seed=7,
        folder=folder,
        fit=fit,
    )


def copy_of_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of a module, as they are now."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
