"""A checkpoint knows its classes, and other sets are held against it by name."""

import json
import shutil

import pytest
import torch
import yaml

SHAPES = ["circle", "square", "triangle", "star"]
LAYOUT = ("data=coco", "data.size=[64,64]", "data.num_workers=0", "data.batch_size=2")


@pytest.fixture
def other(cli, runs):
    """other(new names by old): overrides for the detection set, its categories backwards under other ids."""

    def make(names):
        root = cli.here / "other"
        shutil.copytree(runs.folder / "detection", root)
        for file in (root / "annotations").iterdir():
            content = json.loads(file.read_text())
            ids = {category["id"]: 100 - 7 * category["id"] for category in content["categories"]}
            for category in content["categories"]:
                category |= {"id": ids[category["id"]], "name": names.get(category["name"], category["name"])}
            for annotation in content["annotations"]:
                annotation["category_id"] = ids[annotation["category_id"]]
            file.write_text(json.dumps(content))
        return [*LAYOUT, f"data.root={root}"]

    return make


def found(folder, root):
    """The detections with their classes' names, and the scores of single classes."""
    content = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    entries = json.loads((folder / "detections.json").read_text())
    scores = json.loads((folder / "results.json").read_text())["metrics"]
    return [{**entry, "category_id": names[entry["category_id"]]} for entry in entries], scores


def refused(cli, capsys, entry, *overrides):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.start(entry, *overrides)
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def without_names(run, folder):
    """A copy of a run as it was before checkpoints named their classes."""
    shutil.copytree(run, folder)
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    del content["class_names"]
    torch.save(content, path)
    return folder


@pytest.mark.parametrize("name", ["train", "search"])
def test_checkpoints_name_their_classes(runs, name):
    path = getattr(runs, name) / "checkpoints" / "last.ckpt"
    assert torch.load(path, weights_only=True)["class_names"] == SHAPES


def test_evaluation_by_name(cli, runs, other):
    given, keen = other({"star": "pentagram"}), cli.here / "keen"
    shutil.copytree(runs.train, keen)
    settings = yaml.safe_load((keen / "config.yaml").read_text())
    settings["detector"]["score_threshold"] = 0.0  # two epochs make nobody sure
    (keen / "config.yaml").write_text(yaml.safe_dump(settings))
    cli.start("evaluate", f"checkpoint={keen}", "hydra.run.dir=own")
    cli.start("evaluate", f"checkpoint={keen}", *given, 'classes={"pentagram": star}', "hydra.run.dir=run")
    wanted, scores = found(cli.here / "own", runs.folder / "detection")
    entries, same = found(cli.here / "run", cli.here / "other")
    named = [{**entry, "category_id": entry["category_id"].replace("pentagram", "star")} for entry in entries]
    assert len(named) > 10
    key = lambda entry: json.dumps(entry, sort_keys=True)  # noqa: E731
    assert sorted(named, key=key) == sorted(wanted, key=key)
    assert same == pytest.approx(scores)


def test_other_names(cli, runs, other, capsys):
    given = other({"star": "moon"})
    line = refused(cli, capsys, "evaluate", f"checkpoint={runs.train}", *given, "hydra.run.dir=run")
    assert "only the data set has 'moon', only the network has 'star'" in line
    assert "classes={name in the data: name in the network}" in line
    training = [text for text in cli.detection if not text.startswith("data.")]
    training += [f"architecture={runs.search}", f"checkpoint={runs.train}"]
    line = refused(cli, capsys, "train", *training, *given, "hydra.run.dir=run")
    assert "only the data set has 'moon', only the network has 'star'" in line
    assert "seed.weights" in line


def test_training_goes_on_from_parameters_by_name(cli, runs, other):
    training = [text for text in cli.detection if not text.startswith("data.")]
    training += [f"architecture={runs.search}", f"checkpoint={runs.train}", *other({}), "trainer.max_epochs=1"]
    cli.start("train", *training, "hydra.run.dir=run")
    path = cli.here / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(path, weights_only=True)["class_names"] == SHAPES


def test_checkpoints_without_names(cli, runs, other):
    old = without_names(runs.train, cli.here / "old")
    cli.start("evaluate", f"checkpoint={old}", "hydra.run.dir=own")
    cli.start("evaluate", f"checkpoint={old}", *other({"star": "moon"}), "hydra.run.dir=run")
    said = [(cli.here / folder / "evaluate.log").read_text() for folder in ("own", "run")]
    assert ["taken by their number" in text for text in said] == [False, True]
