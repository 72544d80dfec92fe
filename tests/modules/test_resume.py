"""A run that continues from any checkpoint ends where the uninterrupted one does, to the last bit."""

from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from fna_lightning.architectures import parse_architecture
from fna_lightning.backbones import Classifier, build_backbone
from fna_lightning.costs import tabulate
from fna_lightning.data import ShapesClassificationDataModule, ShapesSegmentationDataModule
from fna_lightning.modules import (
    AlphaTraining,
    ArchitectureAdaptation,
    ParameterAdaptation,
    ParameterGroups,
    SearchData,
    WeightTraining,
)
from fna_lightning.schedules import multistep, poly
from fna_lightning.search import CostObjective
from fna_lightning.segmenters import DeepLabV3
from fna_lightning.supernets import MobileSpace, build_supernet
from fna_lightning.tasks import ClassificationTask, SegmentationTask

ARCHITECTURE = parse_architecture(
    "[[8, 8], ['k3_e1'], 1]|[[8, 12], ['k3_e6', 'k3_e3'], 2]|"
    "[[12, 16], ['k3_e6'], 2]|[[16, 24], ['conv_2d_1x1'], 1]"
)
EPOCHS = 3
BATCHES = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes") / "set"


def shapes(root, workers):
    return ShapesClassificationDataModule(
        root, num_train=2 * 4 * BATCHES, num_val=8, image_size=32, batch_size=4, num_workers=workers
    )


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3)


def schedule(optimizer, steps_per_epoch, epochs):
    return multistep(
        optimizer,
        steps_per_epoch=steps_per_epoch,
        epochs=epochs,
        milestones=[2],
        warmup_steps=4,
        warmup_factor=0.1,
    )


def training(root, workers):
    network = Classifier(build_backbone(ARCHITECTURE, (4,)), 4, dropout=0.5)
    return ParameterAdaptation(network, ClassificationTask(), "", sgd, schedule), shapes(root, workers)


def segmenting(root, workers):
    """As DeepLab is trained: dropout of channels, groups of parameters, and a schedule of two parts."""
    network = DeepLabV3(build_backbone(ARCHITECTURE, (3,), output_stride=4), 5, channels=8, dropout=0.5)
    data = ShapesSegmentationDataModule(
        root.with_name("labelled"),
        num_train=4 * BATCHES,
        num_val=2,
        image_size=32,
        batch_size=4,
        num_workers=workers,
    )
    ramp = partial(poly, warmup_steps=4, warmup_factor=0.1)
    return ParameterAdaptation(network, SegmentationTask(), "", sgd, ramp, groups=ParameterGroups(False, 10)), data


def searching(root, workers):
    supernet = build_supernet(MobileSpace(ARCHITECTURE, {2: 2, 3: 2}, candidates=["k3_e3", "k5_e3"]), (4,))
    adam = partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.999))
    module = ArchitectureAdaptation(
        Classifier(supernet, 4, dropout=0.5),
        ClassificationTask(),
        "",
        tabulate(supernet, (32, 32)),
        WeightTraining(sgd, schedule, clip=5.0),
        AlphaTraining(adam, CostObjective(0.1), clip=5.0, warmup_epochs=1),
        random_seed=0,
    )
    return module, SearchData(shapes(root, workers), 0.5, True, warmup_epochs=1, weight_steps=2)


class SaveAt(Callback):
    def __init__(self, iteration, path):
        self.iteration, self.path = iteration, path

    def on_train_batch_end(self, trainer, pl_module, *_):
        if pl_module.iteration == self.iteration:
            trainer.save_checkpoint(self.path)


def run(build, root, workers, tmp_path, save_at=None, resume=None):
    L.seed_everything(1 if resume is None else 2)  # a resumed process starts with other random numbers
    module, data = build(root, workers)
    callbacks = [] if save_at is None else [SaveAt(save_at, tmp_path / "kept.ckpt")]
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module


@pytest.mark.parametrize("build", [training, segmenting, searching])
@pytest.mark.parametrize(("save_at", "workers"), [(7, 0), (7, 2), (2, 0)])
def test_resumed_equals_uninterrupted(build, save_at, workers, root, tmp_path):
    whole = run(build, root, workers, tmp_path, save_at=save_at)
    resumed = run(build, root, workers, tmp_path, resume=tmp_path / "kept.ckpt")
    assert resumed.iteration == whole.iteration == EPOCHS * len(whole.trainer.train_dataloader)
    assert_same(resumed, whole)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_checkpoints_from_before_alphas_stood_apart(root, tmp_path):
    """They hold every choice's architecture parameters beside its candidates."""
    whole = run(searching, root, 0, tmp_path, save_at=7)
    content = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    state = content["state_dict"]
    for number, name in enumerate(["stages.2.0", "stages.2.1", "stages.3.0", "stages.3.1"]):
        state[f"network.backbone.{name}.alpha"] = state.pop(f"alphas.values.{number}")
    torch.save(content, tmp_path / "old.ckpt")
    resumed = run(searching, root, 0, tmp_path, resume=tmp_path / "old.ckpt")
    assert resumed.iteration == whole.iteration
    assert_same(resumed, whole)


@pytest.mark.parametrize("build", [training, searching])
def test_checkpoints_are_plain_data(build, root, tmp_path):
    run(build, root, 0, tmp_path, save_at=3)
    content = torch.load(tmp_path / "kept.ckpt", weights_only=True)
    assert content["iteration"] == 3
    assert len(content["optimizer_states"]) == (1 if build is training else 2)
