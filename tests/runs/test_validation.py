"""Settings against the annotations of what takes them, and against the classes of `schema`."""

import copy
import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from fna_lightning.errors import ConfigError
from fna_lightning.files import CONF_DIR
from fna_lightning.remapping import STRATEGIES
from fna_lightning.runs import schema
from fna_lightning.runs.validation import check_types, how_to_add


class Unreadable:
    def __init__(self, number: int = 4, unknown: "NotThere" = None):  # noqa: F821
        pass


class Loader:
    def __init__(self, workers: int = 0):
        pass


class Target(Loader):
    def __init__(
        self,
        number: int = 0,
        part: float = 0.0,
        switch: bool = False,
        name: str = "",
        root: str | Path = "",
        sides: Sequence[int] | None = None,
        betas: tuple[float, float] = (0.0, 0.0),
        depths: Mapping[int, int] | None = None,
        mode: Literal["a", "b"] = "a",
        maybe: Optional[int] = None,  # noqa: UP045
        module: Loader | None = None,
        anything: Any = None,
        **settings: Any,
    ):
        pass


class Closed(Target):
    def __init__(self, only: int = 0):
        pass


class Open:
    def __init__(self, number: int = 0, **settings: Any):
        pass


class Empty:
    pass


@pytest.fixture(scope="module")
def entries():
    """The settings of every entry point as composed by default, plain."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        configs = {entry: compose(entry, ["seed=none"]) for entry in ("train", "search")}
        configs["evaluate"] = compose("evaluate", ["checkpoint=run"])
    for config in configs.values():
        config.paths.output = "run"
    return {entry: OmegaConf.to_container(config, resolve=True) for entry, config in configs.items()}


@pytest.fixture
def check(entries, monkeypatch):
    """check(entry, {dotted key: value}): the entry's settings with these in place, or besides."""
    monkeypatch.setenv("FNA_LIGHTNING_ALLOW", __name__)

    def run(entry, values):
        config = OmegaConf.create(copy.deepcopy(entries[entry]))
        for key, value in values.items():
            OmegaConf.update(config, key, value, merge=False, force_add=True)
        check_types(config, entry)

    return run


@pytest.fixture
def check_data(check):
    """check_data(values, target): with a data set that is built by `target` of this module."""
    return lambda values, target="Target": check("train", {"data": {"_target_": f"{__name__}.{target}", **values}})


GOOD = [
    {"number": 3},
    {"part": 3},
    {"part": 0.5},
    {"switch": True},
    {"name": "x"},
    {"root": "/a"},
    {"sides": [1, 2]},
    {"sides": None},
    {"betas": [0.5, 1]},
    {"depths": {2: 4}},
    {"mode": "b"},
    {"maybe": None},
    {"maybe": 2},
    {"module": None},
    {"module": {"_target_": f"{__name__}.Loader", "workers": 2}},
    {"anything": [{"a": 1}]},
    {"workers": 2},
    {"number": "???"},
    {"_convert_": "all", "_recursive_": False},
]
BAD = [
    ({"number": "abc"}, "data.number=abc: give a whole number"),
    ({"number": 1.5}, "data.number=1.5: give a whole number"),
    ({"number": True}, "data.number=True: give a whole number"),
    ({"number": None}, "data.number=None: give a whole number"),
    ({"number": {"_target_": f"{__name__}.Loader"}}, "data.number="),
    ({"part": "half"}, "data.part=half: give a number"),
    ({"switch": 1}, "data.switch=1: give true or false"),
    ({"name": 3}, "data.name=3: give a text"),
    ({"root": [1]}, "data.root=[1]: give a text"),
    ({"sides": 32}, "data.sides=32: give a list, each a whole number or null"),
    ({"sides": ["a"]}, "data.sides=['a']: give a list"),
    ({"betas": [0.5]}, "data.betas=[0.5]: give a list of 2: a number; a number"),
    ({"depths": {"a": 1}}, "give a mapping, each key a whole number and each value a whole number or null"),
    ({"mode": "c"}, "data.mode=c: give one of a, b"),
    ({"maybe": "x"}, "data.maybe=x: give a whole number or null"),
    ({"module": 3}, "data.module=3: give null"),
    (
        {"module": {"_target_": f"{__name__}.Loader", "worker": 2}},
        "unknown key data.module.worker=2: did you mean",
    ),
    ({"workers": "two"}, "data.workers=two: give a whole number"),
    ({"worker": 2}, "unknown key data.worker=2: did you mean data.workers?"),
    ({"_args_": [1]}, "unknown key data._args_=[1]"),
    ({"_partial_": 1}, "data._partial_=1: give true or false"),
    ({"num_workers": -1}, "data.num_workers=-1: give a whole number, 0 or more"),
]


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_arguments_that_fit(check_data, values):
    assert check_data(values) is None


@pytest.mark.parametrize(("values", "line"), BAD, ids=str)
def test_arguments_that_do_not_fit(check_data, values, line):
    with pytest.raises(ConfigError, match=re.escape(line)):
        check_data(values)


def test_annotations_that_cannot_be_read_judge_nothing(check_data):
    assert check_data({"number": "abc"}, "Unreadable") is None


@pytest.mark.parametrize(("target", "allowed"), [("Target", True), ("Closed", False), ("Empty", False)])
def test_arguments_of_base_classes_count_as_far_as_they_are_handed_on(check_data, target, allowed):
    if allowed:
        assert check_data({"workers": 1}, target) is None
    else:
        with pytest.raises(ConfigError, match=re.escape("unknown key data.workers=1")):
            check_data({"workers": 1}, target)


def test_what_takes_anything_is_given_anything(check):
    assert check("train", {"logger.mine": {"_target_": f"{__name__}.Open", "number": None, "other": [1]}}) is None
    with pytest.raises(
        ConfigError, match=r"^unknown key logger\.csv\.saved_dir=x: did you mean logger\.csv\.save_dir"
    ):
        check("train", {"logger.csv.saved_dir": "x"})


def test_interpolations_are_replaced_by_what_was_checked(entries):
    config = OmegaConf.create(copy.deepcopy(entries["train"]))
    config.random_seed = 7
    config.data.random_seed = "${random_seed}"
    check_types(config, "train")
    config.random_seed = 8
    assert config.data.random_seed == 7


# Entry, settings, what the one line says. All of these were merged and ignored, or failed late, once.
WRONG = [
    ("train", {"trainer.max_epoch": 3}, "unknown key trainer.max_epoch=3: did you mean trainer.max_epochs?"),
    (
        "search",
        {"search.warmup_epoch": 2},
        "did you mean search.warmup_epochs?",
    ),
    ("search", {"search.foo": 1}, "unknown key search.foo=1: search has architecture, augment_weight_half, "),
    ("train", {"trainr.max_epochs": 3}, "unknown key trainr={'max_epochs': 3}: did you mean trainer?"),
    ("train", {"search.share": 0.4}, "unknown key search={'share': 0.4}"),
    ("train", {"cost.weight": 0.1}, "unknown key cost.weight=0.1: cost has input_size"),
    ("search", {"cost.wieght": 0.1}, "unknown key cost.wieght=0.1: did you mean cost.weight?"),
    ("search", {"search.weights.weight_deca": 0.9}, "did you mean search.weights.weight_decay?"),
    ("search", {"search.architecture.beta": [0.5, 0.9]}, "did you mean search.architecture.betas?"),
    ("search", {"space.candidate": ["k3_e3"]}, "did you mean space.candidates?"),
    ("search", {"optimizer": {"_target_": "torch.optim.SGD"}}, "unknown key optimizer="),
    ("train", {"optimizer.amsgrd": True}, "unknown key optimizer.amsgrd=True: did you mean optimizer.amsgrad?"),
    ("train", {"optimizer.params": []}, "unknown key optimizer.params=[]"),
    ("train", {"schedule.milestone": [1]}, "unknown key schedule.milestone=[1]: "),
    ("train", {"schedule.epochs": 3}, "unknown key schedule.epochs=3"),
    ("train", {"detector.fpn_channel": 8}, "did you mean detector.fpn_channels?"),
    ("train", {"detector.num_classes": 8}, "unknown key detector.num_classes=8"),
    ("train", {"data.batchsize": 8}, "unknown key data.batchsize=8: did you mean data.batch_size?"),
    ("train", {"task.backends": "x"}, "did you mean task.backend?"),
    ("train", {"seed.weight": "x"}, "did you mean seed.weights?"),
    ("train", {"remap.stratgy": "fna"}, "did you mean remap.strategy?"),
    ("train", {"strategy.device": 2}, "did you mean strategy.devices?"),
    ("train", {"trainer.devices": 2}, "unknown key trainer.devices=2"),
    ("train", {"trainer.gradient_clip_val": 2}, "trainer.gradient_clip_val=2: give null, and clip=<norm>"),
    ("train", {"paths.outputs": "x"}, "did you mean paths.output?"),
    ("evaluate", {"checkpoints": "x"}, "did you mean checkpoint?"),
    ("train", {"trainer.max_epochs": 0}, "trainer.max_epochs=0: give a whole number, 1 or more"),
    ("train", {"trainer.max_epochs": -1}, "trainer.max_epochs=-1: give a whole number, 1 or more"),
    ("train", {"trainer.max_epochs": "3"}, "trainer.max_epochs=3: give a whole number, 1 or more"),
    ("train", {"trainer.precision": "bf16-mix"}, "trainer.precision=bf16-mix: give one of 64, 32, 16 or one of "),
    ("train", {"trainer.on_nonfinite": "stop"}, "trainer.on_nonfinite=stop: give one of raise, skip"),
    (
        "train",
        {"trainer.checkpoint_every": 0},
        "trainer.checkpoint_every=0: give a whole number, 1 or more",
    ),
    ("train", {"trainer.limit_train_batches": "all"}, "trainer.limit_train_batches=all: give"),
    ("train", {"random_seed": -1}, "random_seed=-1: give a whole number, from 0 to 4294967295"),
    ("train", {"random_seed": 2**32}, "random_seed=4294967296: give"),
    ("train", {"random_seed": None}, "random_seed=None: give a whole number"),
    ("train", {"compile": "yes"}, "compile=yes: give true or false"),
    ("train", {"clip": 0}, "clip=0: give a number, above 0 or null"),
    ("train", {"optimizer.lr": -0.1}, "optimizer.lr=-0.1: give a number, 0 or more"),
    ("train", {"schedule.warmup_factor": 0}, "schedule.warmup_factor=0: give a number, above 0, at most 1"),
    ("train", {"schedule.warmup_steps": -5}, "schedule.warmup_steps=-5: give a whole number, 0 or more"),
    ("train", {"strategy.accelerator": "gpus"}, "strategy.accelerator=gpus: give one of auto, cpu, gpu"),
    ("train", {"strategy.devices": 1.5}, "strategy.devices=1.5: give a whole number or a text or a list"),
    ("train", {"strategy.num_nodes": 0}, "strategy.num_nodes=0: give a whole number, 1 or more"),
    ("train", {"remap.strategy": "fan"}, "remap.strategy=fan: give a text, one of fna, "),
    ("train", {"remap.source": "both"}, "remap.source=both: give one of seed, supernet, mixed"),
    ("train", {"remap.calibration_batches": -1}, "remap.calibration_batches=-1: give a whole number, 0 or more"),
    ("train", {"detector.features": "3"}, "detector.features=3: give a list, each a whole number"),
    ("train", {"cost.input_size": [64]}, "cost.input_size=[64]: give a list of 2: a whole number, 1 or more; a "),
    ("train", {"cost.input_size": [0, 64]}, "cost.input_size=[0, 64]: give a list of 2"),
    ("train", {"data.batch_size": 0}, "data.batch_size=0: give a whole number, 1 or more"),
    ("train", {"data.prefetch": 0}, "data.prefetch=0: give a whole number, 1 or more"),
    ("search", {"search.share": 1.0}, "search.share=1.0: give a number, between 0 and 1, or 0 for no split"),
    ("search", {"search.share": -0.1}, "search.share=-0.1: give a number, between 0 and 1"),
    ("search", {"search.weights_on": "path"}, "search.weights_on=path: give one of paths, mixture"),
    ("search", {"search.order": 3}, "search.order=3: give one of 1, 2"),
    ("search", {"search.derive": "alpha"}, "search.derive=alpha: give one of probability, raw"),
    ("search", {"search.warmup_epochs": -1}, "search.warmup_epochs=-1: give a whole number, 0 or more"),
    ("search", {"search.weight_steps": 0}, "search.weight_steps=0: give a whole number, 1 or more"),
    ("search", {"search.temperature": 0}, "search.temperature=0: give a number, above 0"),
    ("search", {"search.log_every": 0}, "search.log_every=0: give a whole number, 1 or more"),
    ("search", {"cost.target": -1}, "cost.target=-1: give a number, above 0 or null"),
    ("search", {"cost.weight": "x"}, "cost.weight=x: give a number"),
    ("search", {"search": 5}, "search=5: give a group of settings"),
    ("train", {"trainer": None}, "trainer=None: give a group of settings"),
    ("train", {"logger": "wandb"}, "logger=wandb: give "),
    ("train", {"data": {"root": "x"}}, "data: has no _target_; choose an option by data=<name>"),
]


@pytest.mark.parametrize(("entry", "values", "line"), WRONG, ids=str)
def test_wrong_settings(check, entry, values, line):
    with pytest.raises(ConfigError) as caught:
        check(entry, values)
    assert str(caught.value).startswith(line) or ("did you mean" in line and line in str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", ["train", "search", "evaluate"])
def test_defaults_are_right(check, entry):
    assert check(entry, {}) is None


def test_what_was_taken_away_is_missed(entries):
    for key in ("seed", "random_seed", "optimizer"):
        config = OmegaConf.create({name: value for name, value in entries["train"].items() if name != key})
        with pytest.raises(ConfigError, match=f"^{key} is not set: give {key}="):
            check_types(config, "train")
    config = OmegaConf.create(copy.deepcopy(entries["search"]))
    del config.search.share
    with pytest.raises(ConfigError, match=r"^search\.share is not set"):
        check_types(config, "search")


OF_OTHERS = [
    ("search", "train", ("search", "search_with", "space")),
    ("train", "search", ("checkpoint", "clip", "optimizer", "schedule")),
    ("train", "evaluate", ("clip", "remap", "seed", "train_with")),
    ("search", "evaluate", ("remap", "search", "search_with", "seed", "space", "train_with")),
    ("evaluate", "train", ("classes", "save_predictions")),
    ("evaluate", "search", ("checkpoint", "classes", "save_predictions")),
]


@pytest.mark.parametrize(("owner", "entry", "keys"), OF_OTHERS)
def test_settings_of_another_entry_point_are_told_as_such(entries, owner, entry, keys):
    with pytest.raises(ConfigError) as caught:
        check_types(OmegaConf.create(copy.deepcopy(entries[owner])), entry)
    assert str(caught.value) == (
        f"{', '.join(keys)}: settings of {owner}.py, unknown to {entry}.py; run this configuration by {owner}.py"
    )


def test_settings_saved_before_recipes_named_their_partner(entries):
    config = {key: value for key, value in entries["search"].items() if key not in ("train_with", "search_with")}
    assert check_types(OmegaConf.create(config), "search") is None
    with pytest.raises(ConfigError, match=r"^search, space: settings of search\.py"):
        check_types(OmegaConf.create(config), "train")


def test_evaluation_takes_parts_of_what_it_will_adopt(check):
    assert check("evaluate", {"data.batch_size": 8, "task.backend": "pycocotools"}) is None
    with pytest.raises(ConfigError, match=r"unknown key data\.batchsize=8: did you mean data\.batch_size"):
        check("evaluate", {"data": {"_target_": "fna_lightning.data.CocoDataModule", "batchsize": 8}})


def test_what_is_missing_is_not_judged_where_it_may_not_be_needed(check):
    assert check("train", {"seed.weights": "???"}) is None


GROUPS = [kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, schema.Group)]


@pytest.mark.parametrize("kind", GROUPS, ids=lambda kind: kind.__name__)
def test_every_setting_of_the_schema_is_explained(kind):
    """By a text behind it, or by its own class."""
    lines = [line.strip() for line in inspect.getsource(kind).splitlines()]
    names = {field.name for field in dataclasses.fields(kind)} & set(kind.__annotations__)
    for number, line in enumerate(lines):
        name, colon, annotation = line.partition(": ")
        if colon and name in names:
            own_class = any(re.search(rf"\b{group.__name__}\b", annotation) for group in GROUPS)
            behind = lines[number + 1] if number + 1 < len(lines) else ""
            assert own_class or kind is schema.EvaluateSettings or behind.startswith('"""'), name
            names.remove(name)
    assert not names


def test_every_configured_setting_has_its_place_in_the_schema():
    """What stands in a group without `_target_` is a field, and the other way round."""
    for group, kind in {"strategy": schema.Strategy, "seed": schema.Seed, "remap": schema.Remap}.items():
        fields = {field.name for field in dataclasses.fields(kind)}
        for name, option in options(group).items():
            assert set(option) == fields, (group, name)


def test_rules_of_remapping_are_those_that_exist():
    assert {option["strategy"] for option in options("remap").values()} == set(STRATEGIES)


def options(group):
    """Every option of a group, composed."""
    names = [path.stem for path in (CONF_DIR / group).glob("*.yaml")]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return {name: compose("train", [f"{group}={name}"])[group] for name in names}


LIGHTNINGS = [
    ("limit_train_batches", 0, "a whole number, 1 or more"),
    ("limit_train_batches", 0.0, "a whole number, 1 or more or a number, above 0, at most 1"),
    ("limit_val_batches", 1.5, "a whole number, 0 or more"),
    ("max_steps", 3, "trainer.max_epochs instead, by which schedules go, and trainer.limit_train_batches"),
    ("min_steps", 3, "trainer.max_epochs instead"),
    ("accumulate_grad_batches", 2, "1 and a larger data.batch_size"),
    ("overfit_batches", 1, "0 and trainer.limit_train_batches"),
    ("overfit_batches", 0.5, "0 and trainer.limit_train_batches"),
    ("fast_dev_run", True, "false and trainer.max_epochs=1 trainer.limit_train_batches=1"),
    ("fast_dev_run", 2, "false and trainer.max_epochs=1"),
    ("barebones", True, "false"),
    ("enable_checkpointing", False, "true"),
]


@pytest.mark.parametrize(("key", "value", "words"), LIGHTNINGS)
@pytest.mark.parametrize("entry", ["train", "search", "evaluate"])
def test_what_lightning_would_count_otherwise(check, entry, key, value, words):
    with pytest.raises(ConfigError, match=f"^trainer.{key}={value}: give {re.escape(words)}"):
        check(entry, {f"trainer.{key}": value})


def test_what_lightning_counts_alike(check):
    values = {"limit_train_batches": 0.5, "limit_val_batches": 0, "max_steps": -1, "fast_dev_run": False}
    values |= {
        "accumulate_grad_batches": 1,
        "overfit_batches": 0.0,
        "val_check_interval": 0.5,
        "max_time": "00:01",
    }
    check("train", {f"trainer.{key}": value for key, value in values.items()})


@pytest.mark.parametrize(
    ("entry", "key", "words"),
    [
        ("train", "trainer.max_time", "no file mentions it; add it by +trainer.max_time=<value>"),
        ("evaluate", "trainer.profiler", "no file mentions it; add it by +trainer.profiler=<value>"),
        ("train", "trainer.max_steps", "give trainer.max_epochs instead, by which schedules go, and trainer."),
        ("train", "trainer.devices", "give strategy.devices=<value>"),
        ("search", "search.weights.momentun", None),
        ("search", "search.architecture.amsgrad", "add it by +search.architecture.amsgrad=<value>"),
        ("train", "trainer.callbacks", None),
        ("train", "trainer.max_epoch", None),
        ("train", "seed.weight", None),
    ],
)
def test_settings_that_no_file_mentions(entries, entry, key, words):
    node = entries[entry]
    for name in key.split(".")[:-1]:
        node = node[name]
    found = how_to_add(key, {name: value for name, value in node.items() if name != key.rpartition(".")[2]})
    assert found is None if words is None else words in found
