"""A search of RetinaNet in two processes that talk by gloo, or in one; what the ranks' test compares."""

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from two_ranks import in_two

from fna_lightning.architectures import load_architecture
from fna_lightning.costs import tabulate
from fna_lightning.data import ShapesDetectionDataModule
from fna_lightning.detectors import RetinaNet
from fna_lightning.errors import UserError
from fna_lightning.modules import (
    ActivePathStrategy,
    AlphaTraining,
    ArchitectureAdaptation,
    SearchData,
    WeightTraining,
)
from fna_lightning.schedules import multistep
from fna_lightning.search import CostObjective
from fna_lightning.supernets import MobileSpace, build_supernet
from fna_lightning.tasks import DetectionTask

STAGES = (3, 5, 7)
GLOBAL_BATCH = 4


class Diary(Callback):
    """Notes what the first update of each kind would do, every path, and what was trained in the end."""

    def __init__(self, module):
        self.gradients, self.paths = {}, []
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        before_update = module.search._before_update

        def note(update):
            allowed = before_update(update)
            kind = {"weights": "weights", "architecture": "alphas"}[update.of]
            if update.path:
                self.paths.append(tuple(update.path))
            if kind not in self.gradients:
                self.gradients[kind] = {names[id(p)]: p.grad.clone() for p in update.parameters}
            return allowed

        module.search._before_update = note


class Spoil(Callback):
    """Puts a number that is not finite into the pictures of one rank, once."""

    def __init__(self, rank):
        self.rank = rank

    def on_train_batch_start(self, trainer, module, batch, *_):
        if trainer.global_rank == self.rank and module.iteration == 1:
            batch.weight.images = batch.weight.images.float() * float("nan")


def without_batch_statistics(network):
    """Every batch norm replaced by a norm over each picture alone."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
    return network


def build(root, batch_size, random_seed, rate=0.01, **settings):
    """(module, data) of a search without warm-up; `settings` are of `AlphaTraining`."""
    torch.manual_seed(5)
    candidates = ["k3_e3", "k5_e6"]
    space = MobileSpace(load_architecture("mobile_small"), {2: 2, 3: 2, 4: 1, 5: 2, 6: 2, 7: 1}, candidates)
    supernet = build_supernet(space, STAGES)
    cost = tabulate(supernet, (64, 64))
    network = without_batch_statistics(RetinaNet(supernet, 4, fpn_channels=8, head_depth=1))
    weights = WeightTraining(
        lambda weights: torch.optim.SGD(weights, rate, momentum=0.9, weight_decay=1e-4),
        lambda optimizer, **counts: multistep(optimizer, milestones=[100], warmup_steps=1, **counts),
        clip=35,
    )
    alphas = AlphaTraining(lambda alphas: torch.optim.Adam(alphas, 0.01), CostObjective(0.1), clip=35, **settings)
    module = ArchitectureAdaptation(network, DetectionTask(), "", cost, weights, alphas, random_seed)
    data = ShapesDetectionDataModule(
        root, num_train=40, num_val=4, image_size=64, batch_size=batch_size, num_workers=0
    )
    return module, SearchData(data, 0.5, True, warmup_epochs=0, weight_steps=1)


def search(root, ranks=1, strategy="auto", iterations=1, random_seed=0, spoil=None, **settings):
    """What `Diary` notes, with the state at the end, or the error's text."""
    module, data = build(root, GLOBAL_BATCH // ranks, random_seed, **settings)
    diary = Diary(module)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=ActivePathStrategy() if strategy == "active" else strategy,
        callbacks=[diary, *([] if spoil is None else [Spoil(spoil)])],
        max_epochs=-(-iterations // 5),
        limit_train_batches=min(iterations, 5),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    try:
        trainer.fit(module, data)
    except UserError as error:
        return {"error": str(error)}
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    gradients = {kind: {name: g.numpy() for name, g in part.items()} for kind, part in diary.gradients.items()}
    return {"gradients": gradients, "paths": diary.paths, "state": state, "iteration": module.iteration}


def _search_rank(rank, root, by_rank, settings):
    return search(root, **settings, **by_rank.get(rank, {}))


def search_in_two(root, by_rank=None, **settings):
    """`search` as two processes run it, by rank; `by_rank` holds settings of one rank alone."""
    return in_two(_search_rank, root, by_rank or {}, {"ranks": 2, "strategy": "active", **settings})
