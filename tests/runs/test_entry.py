"""How an entry point starts and how it fails."""

import os
import sys

import pytest
from hydra.errors import ConfigCompositionException, InstantiationException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from fna_lightning.errors import ArchitectureError, CheckpointError, ConfigError, DataError
from fna_lightning.runs import entry


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["architecture=mobilenet_v2"], ["architecture=mobilenet_v2"]),
        (["architecture=mobilenet_v2,fna_retinanet"], ["architecture=mobilenet_v2,fna_retinanet"]),
        (["architecture=net.txt"], ["architecture=file", "architecture.path='net.txt'"]),
        (["architecture=/a/run dir/"], ["architecture=file", "architecture.path='/a/run dir/'"]),
        (["architecture=it's"], ["architecture=file", r"architecture.path='it\'s'"]),
        (["architecture=a=b"], ["architecture=file", "architecture.path='a=b'"]),
        (["architecture=a,mobilenet_v2"], ["architecture=file", "architecture.path='a','mobilenet_v2'"]),
        (["architecture="], ["architecture="]),
        (["architecture.path=x"], ["architecture.path=x"]),
        (["-m", "seed=none", "architecture=file"], ["-m", "seed=none", "architecture=file"]),
        ([], []),
    ],
)
def test_short_architecture(given, wanted):
    assert entry.short_architecture(given) == wanted


@pytest.mark.parametrize("path", ["run", "a run", "it's", "{1}", "outputs/2026-01-01_00-00-00", "a=b", "(x) #1"])
def test_short_paths_arrive_as_they_were(path):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = OverridesParser.create().parse_overrides(entry.short_architecture([f"architecture={path}"]))
    assert [override.value() for override in overrides] == ["file", path]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["-m", "resume=a=b,c"], ["-m", "resume='a=b',c"]),
        (["--config-dir", "a=b=c", "resume=a=b"], ["--config-dir", "a=b=c", "resume='a=b'"]),
        (["-sc", "query=bash"], ["-sc", "query=bash"]),
        (["--cfg", "job"], ["--cfg", "job"]),
    ],
)
def test_command_lines_become_readable(monkeypatch, given, wanted):
    monkeypatch.setattr(sys, "argv", ["train.py", *given])
    entry.launch(lambda: None, "train.py")
    assert sys.argv[1:] == wanted


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError, ArchitectureError])
def test_our_errors_speak_for_themselves(kind):
    assert entry.one_line(kind("net.txt: is wrong; mend it")) == "net.txt: is wrong; mend it"


def test_our_errors_inside_others():
    inner = DataError("a.jpg: is broken; restore it")
    assert entry.one_line(raised(InstantiationException("Error in call\nfull_key: data"), inner)) == str(inner)


def test_an_error_from_a_loader_process():
    text = (
        "Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        '  File "x.py", line 1, in f\n    raise DataError\n'
        "fna_lightning.errors.DataError: a.jpg: is broken; restore it\n"
    )
    assert entry.one_line(DataError(text)) == "a.jpg: is broken; restore it"


def test_unknown_keys_come_with_a_hint():
    config = OmegaConf.create({"trainer": {"log_every_n_steps": 1}})
    OmegaConf.set_struct(config, True)
    with pytest.raises(ConfigAttributeError) as caught:
        config.trainer.log_every_n_step = 2
    error = raised(ConfigCompositionException("Could not override 'trainer.log_every_n_step'."), caught.value)
    assert entry.one_line(error) == (
        "unknown key trainer.log_every_n_step: did you mean trainer.log_every_n_steps?"
    )


def test_missing_values():
    config = OmegaConf.create({"seed": {"weights": "???"}})
    with pytest.raises(Exception, match="Missing") as caught:
        _ = config.seed.weights
    assert entry.one_line(caught.value) == "seed.weights is not set: give seed.weights=<value>"


def test_unlike_keys_come_without_a_hint():
    config = OmegaConf.create({})
    OmegaConf.set_struct(config, True)
    with pytest.raises(ConfigAttributeError) as caught:
        config.xyzzyxyzzy = 2
    assert "did you mean" not in entry.one_line(caught.value)


@pytest.mark.parametrize(
    "error", [ConfigError("a=1: b"), raised(InstantiationException("x"), ConfigError("a=1: b"))]
)
def test_friendly_prints_one_line_and_exits_with_two(capsys, error):
    with pytest.raises(SystemExit) as ended, entry.friendly():
        raise error
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.err == "error: a=1: b\n"
    assert captured.out == ""


@pytest.mark.parametrize("error", [ValueError("a bug"), raised(InstantiationException("x"), ValueError("a bug"))])
def test_our_own_bugs_keep_their_traceback(error):
    with pytest.raises(type(error)), entry.friendly():
        raise error


def test_interruption_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as ended, entry.friendly():
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert "resume=" in capsys.readouterr().err


@pytest.mark.parametrize("full", ["0", "1", None])
def test_full_errors_on_request(monkeypatch, capsys, full):
    monkeypatch.setattr(sys, "argv", ["train.py", "architecture=net.txt"])
    monkeypatch.setattr(entry, "_show_traceback", False)
    monkeypatch.delenv("FNA_LIGHTNING_FULL_ERROR", raising=False)
    monkeypatch.setenv("HYDRA_FULL_ERROR", full or "")
    if full is None:
        monkeypatch.delenv("HYDRA_FULL_ERROR")

    def main():
        assert sys.argv[1:] == ["architecture=file", "architecture.path='net.txt'"]
        assert os.environ["HYDRA_FULL_ERROR"] == "1"  # so that Hydra raises to us
        raise ConfigError("a=1: b")

    with pytest.raises(ConfigError if full == "1" else SystemExit):
        entry.launch(main, "train.py")
    assert capsys.readouterr().err == ("" if full == "1" else "error: a=1: b\n")
