"""Exported files give what `predict` gives, in the programs that they are made for."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from fna_lightning.deployment import load
from fna_lightning.export import main

CASES = [
    ("retinanet", "onnx", "all"),
    ("retinanet", "torch_export", "none"),
    ("fcos", "onnx", "none"),
    ("fcos", "torch_export", "batch"),
    ("ssdlite", "onnx", "none"),
    ("ssdlite", "torch_export", "none"),
    ("yolof", "onnx", "none"),
    ("yolof", "torch_export", "batch"),
    ("faster_rcnn", "onnx", "none"),
    ("faster_rcnn", "torch_export", "none"),
    ("deeplabv3", "onnx", "all"),
    ("deeplabv3", "torch_export", "all"),
]
ENDINGS = {"onnx": "onnx", "torch_export": "pt2"}


def opened(path):
    """(function from inputs to outputs by name, metadata) of a file, by the programs' own means."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        metadata = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
        return lambda **inputs: dict(zip(names, session.run(None, inputs), strict=True)), metadata
    extra = {"metadata.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    metadata = json.loads(extra["metadata.json"])

    @torch.no_grad()
    def run(**inputs):
        found = module(*(torch.from_numpy(inputs[name]) for name in metadata["inputs"]))
        return dict(zip(metadata["outputs"], (each.numpy() for each in found), strict=True))

    return run, metadata


@pytest.mark.parametrize(("detector", "form", "dynamic"), CASES)
def test_a_file_finds_what_predict_finds(detector, form, dynamic, trained, pictures, tmp_path, capsys):
    run, path = trained(detector), tmp_path / f"network.{ENDINGS[form]}"
    extent = {"none": ["size=[160,160]", "batch=2"], "batch": ["size=[160,160]"], "all": []}[dynamic]
    given = [f"checkpoint={run}", f"format={form}", f"dynamic={dynamic}", f"output={path}", f"images={pictures}"]
    assert main([*given, *extent]) == 0, capsys.readouterr().err
    assert "computes what the network does" in capsys.readouterr().out

    compute, metadata = opened(path)
    assert metadata["class_names"] == ["lorry", "tram", "van"]
    assert metadata["normalisation"]["mean"] == pytest.approx([123.675, 116.28, 103.53])
    assert metadata["network"].lower() == detector.replace("_", "")
    assert metadata["dynamic"] == {"all": ["batch", "size"], "batch": ["batch"], "none": []}[dynamic]
    assert metadata["architecture"]["kind"] == "mobile"
    network = load(run)
    for file in sorted(pictures.iterdir()):
        pixels = np.array(Image.open(file))
        seen = network.see(pixels)
        batch = network.data.unlabelled([seen.pixels], [seen.size])
        images, sizes = batch.images.numpy(), batch.sizes.numpy()
        if extent:
            assert metadata["input_size"] == [160, 160]
            below, right = (160 - side for side in images.shape[2:])
            images, sizes = np.pad(images, ((0, 1), (0, 0), (0, below), (0, right))), np.repeat(sizes, 2, axis=0)
        if detector == "deeplabv3":
            check_labels(compute(images=images), network.predict(pixels))
        else:
            with torch.no_grad():
                wanted = network.module.predict(network.module(torch.from_numpy(images)), torch.from_numpy(sizes))
            check_boxes(compute(images=images, sizes=sizes), wanted[0])


def check_boxes(found, wanted):
    """Where only so many boxes stay, the last may be others by a rounding."""
    kept = found["labels"][0] >= 0
    boxes, labels = torch.from_numpy(found["boxes"][0][kept]), torch.from_numpy(found["labels"][0][kept])
    assert len(boxes) == len(wanted) > 5
    assert len(wanted.labels.unique()) > 1
    torch.testing.assert_close(torch.from_numpy(found["scores"][0][kept]), wanted.scores, rtol=1e-4, atol=1e-4)
    apart = (wanted.boxes[:, None] - boxes).abs().amax(dim=2)
    apart = torch.where(wanted.labels[:, None] == labels, apart, torch.inf)
    assert apart.amin(dim=1)[:-5].max() < 0.02
    assert not found["scores"][0][~kept].any()


def check_labels(found, wanted):
    assert (found["labels"][0] == wanted.labels).mean() > 0.999
    assert len(np.unique(wanted.labels)) > 1
