"""All ranks train the same settings, or none does."""

import multiprocessing
import os

import pytest
from torch.distributed import TCPStore

from fna_lightning.callbacks.consensus import ConfigConsensus, describe_differences, flatten
from fna_lightning.errors import ConfigError

SETTINGS = {"cost": {"weight": 0.1, "size": [2, 3]}, "seed": None, "logger": {}, "trainer": {"epochs": 2}}


def test_flatten():
    assert dict(flatten(SETTINGS)) == {
        "cost.weight": "0.1",
        "cost.size": "[2, 3]",
        "seed": "null",
        "logger": "{}",
        "trainer.epochs": "2",
    }


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([{"a": "1"}, {"a": "1"}, {"a": "2"}], ["a=1 on rank 0, 2 on rank 2"]),
        ([{"a": "1"}, {"a": "1", "b": "2"}], ["b=not set on rank 0, 2 on rank 1"]),
        ([{"a": "1", "b": "2"}, {"a": "1"}], ["b=2 on rank 0, not set on rank 1"]),
        ([dict.fromkeys("abcde", "1"), dict.fromkeys("abcde", "2")], ["a=1", "b=1", "c=1", "and 2 keys more"]),
    ],
)
def test_differences_are_named_once(settings, words):
    line = describe_differences(settings)
    assert [word for word in words if line.count(word) != 1] == []
    assert "\n" not in line


def work(number, environment, settings, stage, found):
    """One rank: fit or validate a small model with these settings; put (rank, message, steps taken)."""
    os.environ.update(environment, RANK=str(number), LOCAL_RANK=str(number))
    import lightning as L
    from lightning.pytorch.demos.boring_classes import BoringModel

    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_steps=2,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ConfigConsensus(settings)],
    )
    try:
        getattr(trainer, stage)(BoringModel())
        found.put((number, "", trainer.global_step))
    except ConfigError as error:
        found.put((number, str(error), trainer.global_step))


@pytest.fixture(scope="module")
def two_ranks():
    """two_ranks(settings of rank 0, of rank 1, stage) -> {rank: (message, steps)} of two gloo processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning.pytorch", "fna_lightning.callbacks.consensus"])

    def run(*settings, stage="fit"):
        store = TCPStore("localhost", 0, is_master=True)  # as torchrun's, so that no port is fought over
        environment = {
            "TORCHELASTIC_RUN_ID": "a",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(store.port),
            "WORLD_SIZE": "2",
            "GROUP_RANK": "0",
        }
        found = context.Queue()
        ranks = [
            context.Process(target=work, args=(number, environment, own, stage, found))
            for number, own in enumerate(settings)
        ]
        for process in ranks:
            process.start()
        answers = {number: (message, steps) for number, message, steps in (found.get(timeout=60) for _ in ranks)}
        for process in ranks:
            process.join(30)
        assert [process.exitcode for process in ranks] == [0, 0]
        return answers

    return run


def test_ranks_that_agree_train(two_ranks):
    other_order = dict(reversed(SETTINGS.items()))
    assert two_ranks(SETTINGS, other_order) == {0: ("", 2), 1: ("", 2)}


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_ranks_that_differ_stop_before_the_first_step(two_ranks, stage):
    other = {**SETTINGS, "cost": {"weight": 0.2, "size": [2, 3]}}
    found = two_ranks(SETTINGS, other, stage=stage)
    assert found[0] == found[1]
    message, steps = found[0]
    assert steps == 0
    assert "cost.weight=0.1 on rank 0, 0.2 on rank 1" in message
