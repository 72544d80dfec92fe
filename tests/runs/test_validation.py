"""Types of settings, against the annotations of what takes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from omegaconf import OmegaConf

from fna_lightning.errors import ConfigError
from fna_lightning.runs.validation import check_types


class Base:
    def __init__(self, batch_size: int = 4, unknown: "NotThere" = None):  # noqa: F821
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
        size: Sequence[int] | None = None,
        betas: tuple[float, float] = (0.0, 0.0),
        depths: Mapping[int, int] | None = None,
        mode: Literal["a", "b"] = "a",
        maybe: Optional[int] = None,  # noqa: UP045
        module: Loader | None = None,
        anything: Any = None,
        **settings: Any,
    ):
        pass


def check(**values):
    return check_types(OmegaConf.create({"data": {"_target_": f"{__name__}.Target", **values}}))


GOOD = [
    {"number": 3},
    {"part": 3},
    {"part": 0.5},
    {"switch": True},
    {"name": "x"},
    {"root": "/a"},
    {"size": [1, 2]},
    {"size": None},
    {"betas": [0.5, 1]},
    {"depths": {2: 4}},
    {"mode": "b"},
    {"maybe": None},
    {"maybe": 2},
    {"module": None},
    {"anything": [{"a": 1}]},
    {"workers": 2},
    {"not_an_argument": object.__name__},
]
BAD = [
    ({"number": "abc"}, "data.number=abc: give a whole number"),
    ({"number": 1.5}, "data.number=1.5: give a whole number"),
    ({"number": True}, "data.number=True: give a whole number"),
    ({"number": None}, "data.number=None: give a whole number"),
    ({"part": "half"}, "data.part=half: give a number"),
    ({"switch": 1}, "data.switch=1: give true or false"),
    ({"name": 3}, "data.name=3: give a text"),
    ({"root": [1]}, r"data.root=\[1\]: give a text"),
    ({"size": 32}, "data.size=32: give a list, each a whole number or null"),
    ({"size": ["a"]}, r"data.size=\['a'\]: give a list"),
    ({"betas": [0.5]}, r"data.betas=\[0.5\]: give a list of 2: a number, a number"),
    ({"depths": {"a": 1}}, "give a mapping, each key a whole number and each value a whole number or null"),
    ({"mode": "c"}, "data.mode=c: give one of a, b"),
    ({"maybe": "x"}, "data.maybe=x: give a whole number or null"),
    ({"module": 3}, "data.module=3: give null"),
    ({"workers": "two"}, "data.workers=two: give a whole number"),
]


@pytest.mark.parametrize("values", GOOD, ids=str)
def test_good(values):
    assert check(**values) is None


@pytest.mark.parametrize(("values", "match"), BAD, ids=str)
def test_bad(values, match):
    with pytest.raises(ConfigError, match=match):
        check(**values)


def test_annotations_that_cannot_be_read_judge_nothing():
    config = OmegaConf.create({"data": {"_target_": f"{__name__}.Base", "batch_size": "abc"}})
    assert check_types(config) is None


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"random_seed": "x"}, "random_seed=x: give a whole number"),
        ({"cost": {"weight": "x"}}, "cost.weight=x: give a number"),
        ({"cost": {"input_size": [64]}}, r"cost.input_size=\[64\]: give a list of 2"),
        ({"strategy": {"devices": 1.5}}, "strategy.devices=1.5: give"),
    ],
)
def test_settings_outside_constructors(values, match):
    with pytest.raises(ConfigError, match=match):
        check_types(OmegaConf.create(values))


def test_what_is_missing_is_not_judged_where_it_may_not_be_needed():
    config = OmegaConf.create({"seed": {"weights": "???", "architecture": None}})
    assert check_types(config) is None
