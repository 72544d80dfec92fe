"""What the command refuses, in one line, and what it does where a file is wrong."""

import sys

import pytest
import torch

from fna_lightning.deployment.export import exporting
from fna_lightning.export import main


def line(capsys, *arguments):
    """(exit code, the one line on stderr)."""
    code = main([*arguments])
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    return code, error


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["format=safetensors", "part=raw"], "carries parameters and no graph; give part=backbone"),
        (["format=onnxx"], "format=onnxx"),
        (["format=onnx", "size=[64,64]", "dynamic=all"], "size=[64, 64]: give [height, width], and dynamic=none"),
        (["format=onnx", "batch=2", "dynamic=batch"], "batch=2: dynamic=batch takes any number"),
        (["format=onnx", "output=cells.pt2"], "output=cells.pt2: a file of format=onnx ends in .onnx"),
        (["format=onnx", "dynamc=all"], "unknown key dynamc"),
        (["format=torch_export", "size=[32,32]"], "size=[32, 32]: 0.png is brought to 96x128"),
        (["format=torch_export", "images=/nowhere/at/all"], "/nowhere/at/all: no such file or folder"),
        (["format=torch_export", "images=null"], "or name pictures to check the export on by images=<folder>"),
        ([], "format is not set"),
    ],
)
def test_what_cannot_be_is_one_line(settings, said, trained, pictures, capsys):
    code, error = line(capsys, f"checkpoint={trained('ssdlite')}", f"images={pictures}", *settings)
    assert code == 2
    assert said in error


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(package, trained, pictures, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    code, error = line(capsys, f"checkpoint={trained('ssdlite')}", f"images={pictures}", "format=onnx")
    assert code == 2
    assert f"needs {package}" in error
    assert "fna_lightning[export]" in error


def test_a_file_that_computes_something_else_is_not_kept(trained, pictures, tmp_path, capsys, monkeypatch):
    runner = exporting.weights_file.runner

    def wrong(path):
        run = runner(path)
        return lambda inputs: [each + 1e-3 for each in run(inputs)]

    monkeypatch.setattr(exporting.weights_file, "runner", wrong)
    arguments = [f"checkpoint={trained('ssdlite')}", f"images={pictures}", "format=safetensors"]
    assert main([*arguments, f"output={tmp_path / 'a' / 'cells.safetensors'}"]) == 1
    said = capsys.readouterr()
    assert "DIFFERS" in said.out
    assert "computes something else than the network on 5 of 5 batches" in said.err
    assert not any((tmp_path / "a").iterdir())


def test_what_the_format_cannot_carry_is_one_line(trained, pictures, capsys, monkeypatch):
    def refuse(*_, **__):
        raise torch._dynamo.exc.UserError(torch._dynamo.exc.UserErrorType.CONSTRAINT_VIOLATION, "height is fixed")

    monkeypatch.setattr(torch.export, "export", refuse)
    given = [f"checkpoint={trained('ssdlite')}", f"images={pictures}", "format=torch_export", "dynamic=all"]
    code, error = line(capsys, *given)
    assert code == 2
    assert "cannot carry this graph with batch and height and width that vary; give dynamic=batch or none" in error


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("onnx", "torch_export", "safetensors", "dynamic: null", "exit codes"))
