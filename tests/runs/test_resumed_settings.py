"""A run's settings against those it was begun with: nothing that was saved makes anything but one line."""

import copy

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fna_lightning.errors import ConfigError, UserError
from fna_lightning.files import CONF_DIR
from fna_lightning.runs.resume import check_resume

STATE = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks")


def composed(entry, *overrides):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(entry, ["seed=none", *overrides])
    OmegaConf.set_struct(config, False)
    config.paths.output = "run"
    OmegaConf.resolve(config)
    return config


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """begun(saved settings, content): the directory of a run that was begun with them."""

    def make(saved, **content):
        folder = tmp_path_factory.mktemp("run")
        (folder / "checkpoints").mkdir()
        text = saved if isinstance(saved, str) else yaml.safe_dump(saved)
        (folder / "config.yaml").write_text(text)
        state = {**{name: {} for name in STATE}, "iteration": 3, "data": {}, "processes": 1, **content}
        torch.save(state, folder / "checkpoints" / "last.ckpt")
        return folder

    return make


@pytest.fixture(scope="module")
def plain():
    return {entry: OmegaConf.to_container(composed(entry)) for entry in ("train", "search")}


def check(folder, entry, *overrides, **values):
    config = composed(entry, *overrides)
    for key, value in values.items():
        OmegaConf.update(config, key, value, force_add=True)
    config.resume = str(folder)
    check_resume(config, folder, entry)


def refusal(folder, entry, *overrides):
    with pytest.raises(ConfigError) as refused:
        check(folder, entry, *overrides)
    return str(refused.value).partition("goes on: ")[2]


FREE = [
    "trainer.precision=bf16-mixed",
    "trainer.log_every_n_steps=1",
    "+trainer.max_time=00:01:00:00",
    "trainer.check_val_every_n_epoch=2",
    "logger=wandb",
    "data.num_workers=0",
    "data.root=/elsewhere",
    "data.on_error=skip",
    "channels_last=true",
    "strategy=ddp_cpu strategy.devices=1",
    "strategy=ddp_cpu data.batch_size=4",  # of 8 in one process
]


@pytest.mark.parametrize("given", FREE)
def test_what_may_change(begun, plain, given):
    check(begun(plain["train"]), "train", *given.split())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("strategy=ddp_cpu", "strategy.devices=2: 2 process(es) (were 1); "),
        ("strategy=ddp_cpu data.batch_size=2", "data.batch_size=2 (was 8); strategy.devices=2: 2 process(es)"),
        ("+optimizer.amsgrad=true", "optimizer.amsgrad=true (was not set); "),
        ("detector=ssdlite", "detector=SSDLite (was RetinaNet); "),
        ("data=coco data.root=x", "data=CocoDataModule (was ShapesDetectionDataModule); "),
        ("strategy.sync_batchnorm=true", "strategy.sync_batchnorm=true (was false); "),
    ],
)
def test_what_may_not(begun, plain, given, words):
    assert words in refusal(begun(plain["train"]), "train", *given.split())


def test_what_was_not_set_and_has_its_default(begun, plain):
    check(begun(plain["train"]), "train", "+optimizer.amsgrad=false")


@pytest.mark.parametrize("name", ["multistep", "cosine", "poly"])
def test_epochs_of_a_schedule(begun, name):
    saved = OmegaConf.to_container(composed("train", f"schedule={name}"))
    given = [f"schedule={name}", "trainer.max_epochs=50"]
    if name == "multistep":
        check(begun(saved), "train", *given)
    else:
        assert refusal(begun(saved), "train", *given).startswith("trainer.max_epochs=50 (was 6); ")


def test_files_may_have_moved(begun):
    given = ("seed=custom", "seed.weights=/a/seed.pth")
    folder = begun(OmegaConf.to_container(composed("train", *given)))
    check(folder, "train", "seed=custom", "seed.weights=/b/seed.pth")
    assert "seed.weights=/b/other.pth (was /a/seed.pth)" in refusal(
        folder, "train", "seed=custom", "seed.weights=/b/other.pth"
    )


def test_another_set_of_a_run_that_counted_none(begun, plain):
    folder = begun(plain["train"])
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    del state["data"]
    torch.save(state, folder / "checkpoints" / "last.ckpt")
    assert "data.root=/elsewhere (was " in refusal(folder, "train", "data.root=/elsewhere")


JUNK = st.sampled_from(
    [None, "", "abc", 3, -1.5, True, [], {}, [1, "a"], {"_target_": "os.system"}, {"path": "x"}, "${x}"]
)


def nodes(value, place=()):
    yield place
    if isinstance(value, dict):
        for key, item in value.items():
            yield from nodes(item, (*place, key))


@given(st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@pytest.mark.parametrize("entry", ["train", "search"])
def test_saved_settings_that_were_tampered_with(begun, plain, entry, data):
    saved = copy.deepcopy(plain[entry])
    for place in data.draw(st.lists(st.sampled_from(list(nodes(saved))[1:]), min_size=1, max_size=3)):
        node = saved
        for key in place[:-1]:
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        if data.draw(st.booleans()):
            node.pop(place[-1], None)
        else:
            node[place[-1]] = copy.deepcopy(data.draw(JUNK))
    config = OmegaConf.create(plain[entry])
    folder = begun(saved)
    config.resume = str(folder)
    said = ""
    try:
        check_resume(config, folder, entry)
    except UserError as error:
        said = str(error)
    assert "\n" not in said
