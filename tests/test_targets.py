"""Nothing outside the list of packages is imported or called, however it is written."""

import pkgutil
import re
import sys

import pytest
from omegaconf import OmegaConf

from fna_lightning.errors import ConfigError
from fna_lightning.runs.validation import check_types
from fna_lightning.targets import ALLOWED, FUNCTIONS, allowed_by_user, check_targets, resolve_target

REFUSED = [
    ("os.system", "may only name"),
    ("builtins.eval", "may only name"),
    ("torch.load", "may only name"),
    ("torch.hub.load", "may only name"),
    ("numpy.load", "may only name"),
    ("hydra.utils.instantiate", "may only name"),
    ("lightning.pytorch.callbacks.LambdaCallback", "may only name"),
    # A name that begins like one of the list, but is another package.
    ("torch.optimizer.SGD", "may only name"),
    ("torch.optim_extra.SGD", "may only name"),
    ("fna_lightning_evil.Thing", "may only name"),
    ("lightning.TrainerOfSomebodyElse", "may only name"),
    # Along attributes, out of a package of the list.
    ("fna_lightning.files.os.system", "cannot be imported"),
    ("fna_lightning.runs.folder.shlex.join", "cannot be imported"),
    ("lightning.pytorch.loggers.wandb.os.system", "cannot be imported"),
    ("torch.optim.sgd.torch.load", "cannot be imported"),
    ("fna_lightning.data.CocoDataModule.prepare_data", "cannot be imported"),
    # Something foreign that was imported there.
    ("fna_lightning.runs.build.instantiate", "no such class"),
    ("fna_lightning.runs.build.Path", "outside fna_lightning"),
    ("lightning.pytorch.loggers.wandb.Namespace", "outside lightning.pytorch.loggers"),
    # Functions of the package's own that act on what they are given.
    ("fna_lightning.files.write_text", "no such class"),
    ("fna_lightning.runs.build.make", "no such class"),
    ("fna_lightning.schedules.MultiStepLR", "outside fna_lightning"),
    # Modules, and what is not there.
    ("fna_lightning.files", "no such class"),
    ("fna_lightning", "give the dotted name"),
    ("fna_lightning.data.Nothing", "no such class"),
    ("torch.optim.Nothing", "no such class"),
    # Odd spellings.
    ("", "give the dotted name"),
    (" os.system", "give the dotted name"),
    ("torch.optim..SGD", "give the dotted name"),
    ("torch.optim.SGD ", "give the dotted name"),
    ("torch.optim.sgd.__builtins__", "give the dotted name"),
    ("fna_lightning.schedules._after_warmup", "give the dotted name"),
    ("${other}", "give the dotted name"),
    (3, "give the dotted name"),
    (None, "give the dotted name"),
    (["torch.optim.SGD"], "give the dotted name"),
    ({"_target_": "torch.optim.SGD"}, "give the dotted name"),
]


@pytest.mark.parametrize(("target", "words"), REFUSED, ids=lambda value: str(value))
def test_what_is_not_on_the_list(target, words):
    with pytest.raises(ConfigError) as caught:
        resolve_target("optimizer", target)
    line = str(caught.value)
    assert line.startswith(f"optimizer._target_={target}: ")
    assert words in line
    assert "\n" not in line


def test_what_is_refused_here_exists():
    """To refuse what is not there would show nothing."""
    own = [t for t, _ in REFUSED if isinstance(t, str) and t.startswith("fna_lightning.") and "Nothing" not in t]
    assert len(own) == 10
    for target in own:
        assert pkgutil.resolve_name(target) is not None


@pytest.mark.parametrize(
    "target",
    [
        "lightning.Trainer",
        "lightning.pytorch.loggers.CSVLogger",
        "lightning.pytorch.strategies.DDPStrategy",
        "torch.optim.SGD",
        "fna_lightning.data.CocoDataModule",
        "fna_lightning.schedules.cosine",
        "fna_lightning.reporting.sweep.SweepSummary",
    ],
)
def test_what_is_on_the_list(target):
    found = resolve_target("key", target)
    assert found.__name__ == target.rpartition(".")[2]
    assert callable(found)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that leaves a file when it is imported, with a function that leaves another."""
    (tmp_path / "somebodys.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n"
        f"def act(**settings):\n    Path({str(tmp_path / 'called')!r}).touch()\n"
        "class Tool:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("somebodys", None)


def settings(target):
    """Plain data in which `target` stands at ever other places."""
    yield {"optimizer": {"_target_": target}}, "optimizer"
    yield {"trainer": {"plugins": [{"a": 1}, {"_target_": target}]}}, "trainer.plugins.1"
    yield {"data": {"a": {"b": [[{"_target_": target}]]}}}, "data.a.b.0.0"
    yield {"architecture": {"_target_": target}}, "architecture"
    yield {"_target_": target}, ""
    yield {"logger": {3: {"_target_": target, "_partial_": True}}}, "logger.3"


@pytest.mark.parametrize("place", range(6))
def test_nothing_is_imported_before_it_is_checked(trap, place):
    node, key = list(settings("somebodys.act"))[place]
    with pytest.raises(ConfigError, match=re.escape(f"{key}._target_=" if key else "_target_=")):
        check_targets(node)
    assert not (trap / "imported").exists()
    import somebodys

    somebodys.act()
    assert (trap / "imported").exists()
    assert (trap / "called").exists()


WAYS = [
    "{_target_: somebodys.act}",
    "'${oc.create:{_target_: somebodys.act}}'",
    "{_target_: '${name}'}",
    "{_target_: '${oc.decode:somebodys.act}'}",
    "[1, '${hidden}']",
    "{weights: {_target_: somebodys.act}}",
]


@pytest.mark.parametrize("way", WAYS)
def test_interpolations_hide_nothing(trap, way):
    config = OmegaConf.create(f"name: somebodys.act\nhidden: {{_target_: somebodys.act}}\nclip: {way}\n")
    if "hidden" not in way:
        del config.hidden
    with pytest.raises(ConfigError, match=r"_target_=somebodys\.act: settings may only name"):
        check_types(config, "train")
    assert not (trap / "imported").exists()


@pytest.mark.usefixtures("trap")
def test_users_extend_the_list(monkeypatch):
    monkeypatch.setenv("FNA_LIGHTNING_ALLOW", " other.package , somebodys ,")
    assert allowed_by_user() == ("other.package", "somebodys")
    assert resolve_target("key", "somebodys.act").__name__ == "act"
    assert resolve_target("key", "somebodys.Tool").__name__ == "Tool"
    with pytest.raises(ConfigError, match="outside somebodys"):
        resolve_target("key", "somebodys.Path")
    with pytest.raises(ConfigError, match="may only name"):
        resolve_target("key", "somebodys_else.act")


def test_the_list_names_what_exists():
    import importlib

    for entry in (*ALLOWED, *FUNCTIONS):
        module, _, name = entry.rpartition(".")
        assert hasattr(importlib.import_module(module or entry), name) or importlib.import_module(entry)
