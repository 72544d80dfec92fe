"""What a user can get wrong: exit code 2, one line that names key or file, and nothing lost."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch

from fna_lightning.architectures import load_architecture, save_architecture
from fna_lightning.errors import ConfigError


class CocoSet:
    """A detection set of four training and two validation images that a test can break."""

    def __init__(self, root):
        self.root = root
        rng = np.random.default_rng(0)
        for split, size in (("train", 4), ("val", 2)):
            (root / split).mkdir(parents=True)
            images, annotations = [], []
            for k in range(size):
                name = f"{k}.jpg"
                cv2.imwrite(str(root / split / name), rng.integers(0, 256, (40, 48, 3), np.uint8))
                images.append({"id": k, "file_name": name, "height": 40, "width": 48})
                # Category ids with gaps; the second image has no box.
                boxes = [] if k == 1 else [[4.0, 4.0, 20.0, 18.0]]
                annotations += [
                    {"id": 10 * k + j, "image_id": k, "category_id": 7, "bbox": box, "area": 360.0, "iscrowd": 0}
                    for j, box in enumerate(boxes)
                ]
            categories = [{"id": 7, "name": "cell"}, {"id": 90, "name": "plate"}]
            self.write({"images": images, "annotations": annotations, "categories": categories}, split)

    def file(self, split="train"):
        return self.root / f"{split}.json"

    def write(self, content, split="train"):
        self.file(split).write_text(json.dumps(content))

    def change(self, table, index, **values):
        content = json.loads(self.file().read_text())
        content[table][index].update(values)
        self.write(content)

    def overrides(self):
        return (
            "data=coco",
            f"data.root={self.root}",
            "data.train_annotations=train.json",
            "data.val_annotations=val.json",
            "data.train_images=train",
            "data.val_images=val",
            "data.size=[32,32]",
            "data.batch_size=2",
            "data.num_workers=0",
        )


NETWORK = (
    "detector.fpn_channels=8",
    "detector.head_depth=1",
    "cost.input_size=[32,32]",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=1",
)


@pytest.fixture
def coco(tmp_path):
    return CocoSet(tmp_path / "set")


@pytest.fixture
def refused(cli, capsys):
    """refused(entry, *overrides) -> the one line on stderr, without `error: `."""

    def run(entry, *overrides):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.start(entry, *overrides)
        captured = capsys.readouterr()
        assert ended.value.code == 2
        lines = captured.err.strip().splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in captured.out + captured.err
        return lines[0].removeprefix("error: ")

    return run


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN_SETS = {
    "missing root": (lambda s: shutil.rmtree(s.root), ["set", "no such folder", "data.root"]),
    "empty root": (lambda s: (shutil.rmtree(s.root), s.root.mkdir()), ["set", "empty", "data.root"]),
    "not coco": (lambda s: s.write({"a": 1}), ["train.json", "is not a COCO"]),
    "not json": (lambda s: s.file().write_text("{"), ["train.json", "is not JSON"]),
    "no annotation file": (lambda s: s.file().unlink(), ["train.json", "no such annotation file"]),
    "missing image": (lambda s: (s.root / "train" / "2.jpg").unlink(), ["train", "2.jpg", "missing"]),
    "truncated image": (lambda s: truncate(s.root / "train" / "2.jpg"), ["2.jpg", "truncated"]),
    "no image": (lambda s: (s.root / "train" / "2.jpg").write_text("<html>"), ["2.jpg", "no image"]),
    "box of no area": (
        lambda s: s.change("annotations", 0, bbox=[4, 4, 0, 9]),
        ["train.json", "annotation 0", "[4.0, 4.0, 0.0, 9.0]", "no area"],
    ),
    "box outside": (
        lambda s: s.change("annotations", 0, bbox=[100, 4, 9, 9]),
        ["train.json", "annotation 0", "[100.0, 4.0, 9.0, 9.0]", "outside"],
    ),
    "unknown category": (lambda s: s.change("annotations", 0, category_id=8), ["train.json", "category_id 8"]),
}


@pytest.mark.parametrize(
    ("entry", "case"), [*(("train", case) for case in BROKEN_SETS), ("search", "box of no area")]
)
def test_broken_sets(refused, coco, entry, case):
    damage, words = BROKEN_SETS[case]
    damage(coco)
    line = refused(entry, *NETWORK, *coco.overrides(), "hydra.run.dir=run")
    assert [word for word in words if word not in line] == []


def test_images_without_boxes_and_ids_with_gaps_train(cli, coco):
    cli.start("train", *NETWORK, *coco.overrides(), "hydra.run.dir=run")
    names = json.loads((cli.here / "run" / "results.json").read_text())["metrics"]
    assert "mAP" in names


def test_broken_items_can_be_left_out(cli, coco):
    coco.change("annotations", 0, bbox=[100, 4, 9, 9])
    cli.start("train", *NETWORK, *coco.overrides(), "data.on_error=skip", "hydra.run.dir=run")
    assert "left out 1 item" in (cli.here / "run" / "train.log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_breaks_while_training(refused, coco, workers):
    (coco.root / "train" / "2.jpg").write_bytes(b"junk")
    line = refused(
        "train",
        *NETWORK,
        *coco.overrides(),
        "data.check_images=none",
        "data.batch_size=4",
        f"data.num_workers={workers}",
        "hydra.run.dir=run",
    )
    assert "2.jpg: cannot be decoded" in line


SETTINGS = [
    ("train", ["nonsense=1"], ["nonsense"]),
    ("train", ["trainer.max_epoch=3"], ["unknown key trainer.max_epoch", "did you mean trainer.max_epochs?"]),
    ("search", ["cost.wieght=1"], ["unknown key cost.wieght", "did you mean cost.weight?"]),
    (
        "train",
        ["detector=retinnet"],
        ["no detector=retinnet", "did you mean detector=retinanet?", "classifier, deeplabv3"],
    ),
    ("train", ["experiment=fna/nothing"], ["no experiment=fna/nothing", "fna/retinanet_coco, "]),
    ("train", ["experiment=fna/retinanet_coc"], ["did you mean experiment=fna/retinanet_coco?"]),
    ("train", ["detectr=retinanet"], ["unknown key detectr: did you mean detector?"]),
    ("train", ["experimnt=demo/train"], ["unknown key experimnt: did you mean experiment?"]),
    ("train", ["data=null"], ["data=null", "must be a string"]),
    ("train", ["~seed"], ["seed is not set"]),
    ("train", ["+search.share=0.4"], ["unknown key search={'share': 0.4}"]),
    ("search", ["+search.foo=1"], ["unknown key search.foo=1", "warmup_epochs"]),
    ("search", ["+trainer.max_epoch=1"], ["unknown key trainer.max_epoch=1", "did you mean trainer.max_epochs?"]),
    ("train", ["trainer.max_time=00:01:00:00"], ["key trainer.max_time: ", "by +trainer.max_time=<value>"]),
    ("train", ["+trainer.max_time=long"], ["lightning.Trainer: `Timer(duration='long')` is not a valid duration"]),
    ("train", ["optimizer.betas=[1,2]"], ["optimizer: Invalid beta parameter at index 0: 1; correct it"]),
    ("train", ["trainer.max_epochs=0"], ["trainer.max_epochs=0", "1 or more"]),
    ("train", ["+hydra.callbacks.x._target_=os.system"], ["hydra.callbacks.x._target_=os.system"]),
    ("evaluate", ["checkpoint=x", "+remap.source=seed"], ["unknown key remap={'source': 'seed'}"]),
    ("train", ["experiment=fna/retinanet_coco", "seed=none"], ["data.root is not set"]),
    ("train", ["seed=mobilenet_v2"], ["seed.weights is not set: give seed.weights=<value>"]),
    ("search", ["seed=custom"], ["seed.weights is not set"]),
    ("evaluate", [], ["checkpoint is not set"]),
    ("train", ["trainer.max_epochs=abc"], ["max_epochs", "abc"]),
    ("train", ["data.batch_size=abc"], ["batch_size", "abc"]),
    ("train", ["data.num_workers=two"], ["num_workers", "two"]),
    ("search", ["cost.weight=abc"], ["cost.weight", "abc"]),
    ("search", ["cost.target=many"], ["cost.target", "many"]),
    ("search", ["search.warmup_epochs=abc"], ["search.warmup_epochs", "abc"]),
    ("search", ["search.share=half"], ["search.share", "half"]),
    ("search", ["search.clip_weights=abc"], ["search.clip_weights", "abc"]),
    ("train", ["clip=abc"], ["clip", "abc"]),
    ("train", ["random_seed=abc"], ["random_seed", "abc"]),
    ("train", ["optimizer.lr=abc"], ["lr", "abc"]),
    ("train", ["schedule.warmup_steps=abc"], ["warmup_steps", "abc"]),
    ("train", ["detector.fpn_channels=abc"], ["fpn_channels", "abc"]),
    ("train", ["cost.input_size=64"], ["cost.input_size", "64"]),
    ("train", ["trainer.precision=abc"], ["precision", "abc"]),
    ("train", ["strategy.accelerator=abacus"], ["abacus"]),
    ("search", ["search.weight_steps=0"], ["search.weight_steps=0"]),
    ("search", ["search.share=1"], ["share", "1"]),
    (
        "train",
        ["data.batch_size=1", "data.size=[32,32]"],
        ["data.batch_size=1: a picture of 32x32", "give 2 or more"],
    ),
    ("search", ["data.batch_size=1", "data.size=[32,32]"], ["data.batch_size=1: a picture of 32x32"]),
    ("search", ["cost.target=1e3"], ["cannot be met"]),
    ("search", ["cost.log_base=1"], ["cost.log_base=1"]),
    ("search", ["++space.depths={2:2,9:2}"], ["stage 9"]),
    ("search", ["space.candidates=[k3_e3,k4_e6]"], ["kernel 4"]),
    ("search", ["space.candidates=[conv3]"], ["conv3"]),
    ("search", ["trainer.precision=16-true"], ["trainer.precision=16-true"]),
    ("search", ["trainer.precision=16-mixed"], ["trainer.precision=16-mixed"]),
    (
        "train",
        ["detector=classifier"],
        ["unknown key detector.", "has dropout, features, mean, output_stride, std, strides"],
    ),
    ("train", ["experiment=demo/seed", "data=shapes_detection"], ["detection", "classification", "Classifier"]),
    ("train", ["detector.features=[3,5,12]"], ["12"]),
    ("train", ["remap.source=mixed"], ["remap.source=mixed needs remap.supernet="]),
    ("train", ["remap.source=nothing"], ["remap.source=nothing", "seed, supernet, mixed"]),
    ("train", ["data.classes=9"], ["data.classes=9"]),
    ("train", ["seed=custom", "seed.weights=missing.pth"], ["missing.pth", "no such file"]),
    ("train", ["seed=custom", "seed.weights=a/epoch=3.ckpt"], ["a/epoch=3.ckpt: no such file"]),
    ("train", ["seed=custom", "seed.weights=imagenet"], ["seed.weights=imagenet"]),
    ("train", ["architecture=nothing"], ["nothing", "mobilenet_v2"]),
    ("train", ["checkpoint=nothing.ckpt"], ["nothing.ckpt", "no such file"]),
    ("train", ["resume=nothing"], ["nothing"]),
    ("evaluate", ["checkpoint=nothing"], ["nothing"]),
    ("train", ["trainer.max_epochs=[1"], ["[1"]),
]


@pytest.mark.parametrize(
    ("entry", "given", "words"), SETTINGS, ids=lambda value: " ".join(value) if isinstance(value, list) else value
)
def test_settings(refused, cli, entry, given, words):
    small = {"train": cli.detection, "search": cli.search, "evaluate": ()}[entry]
    small = [text for text in small if text.split("=")[0] not in {one.split("=")[0] for one in given}]
    if any("coco" in text or "classifier" in text or "demo/seed" in text for text in given):
        small = [text for text in small if text.split(".")[0] not in {"data", "detector"}]
    if "detector=classifier" in given or "data=shapes_detection" in given:
        small += [text for text in cli.detection if text.startswith("data.")]
    line = refused(entry, *small, *given, "hydra.run.dir=run")
    assert [word for word in words if word not in line] == []


RECIPES = [
    ("train", "trainer: {max_epoch: 3}", "unknown key trainer.max_epoch=3: did you mean trainer.max_epochs?"),
    (
        "search",
        "search: {warmup_epoch: 2}",
        "unknown key search.warmup_epoch=2: did you mean search.warmup_epochs?",
    ),
    ("train", "optimiser: {lr: 0.1}", "unknown key optimiser={'lr': 0.1}: did you mean optimizer?"),
    ("train", "optimizer: {lr: fast}", "optimizer.lr=fast: give a number, 0 or more"),
    ("train", "data: 3", "data=3: give a group of settings"),
    ("train", "cost: {input_size: [64, 64, 3]}", "cost.input_size=[64, 64, 3]: give a list of 2"),
    ("train", "clip: ${trainer.max_epoch}", "trainer.max_epoch"),
    (
        "train",
        "detector: {_target_: fna_lightning.detectors.RetinaNett}",
        "detector._target_=fna_lightning.detect",
    ),
]


@pytest.mark.parametrize(("entry", "text", "words"), RECIPES)
def test_recipes_of_ones_own(refused, cli, entry, text, words):
    folder = cli.here / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(f"# @package _global_\n{text}\n")
    line = refused(entry, "--config-dir", "mine", "experiment=recipe", "hydra.run.dir=run")
    assert words in line
    assert [path.name for path in cli.here.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("owner", "entry", "keys"),
    [
        ("search", "train", "search, search_with, space"),
        ("train", "search", "checkpoint, clip, optimizer, schedule"),
    ],
)
def test_the_configuration_of_another_entry_points_run(refused, cli, runs, owner, entry, keys):
    folder = str(getattr(runs, owner))
    line = refused(entry, "--config-dir", folder, "--config-name", "config", "hydra.run.dir=run")
    assert line.startswith(f"{keys}: settings of {owner}.py, unknown to {entry}.py; ")
    assert not (cli.here / "run").exists()


def test_weights_that_are_none(refused, cli):
    (cli.here / "text.pth").write_text("hello")
    line = refused("train", *cli.detection, "seed=custom", "seed.weights=text.pth", "hydra.run.dir=run")
    assert "text.pth: is no readable weight file" in line or "text.pth: holds objects" in line


def test_tensors_that_do_not_fit(refused, cli, runs):
    line = refused("train", *cli.detection, "seed=mobilenet_v2", f"seed.weights={runs.seed}", "hydra.run.dir=run")
    assert str(runs.seed) in line
    assert "but the seed's architecture wants" in line


def test_weights_under_unknown_names(refused, cli):
    torch.save({"layer.weight": torch.zeros(3)}, cli.here / "other.pth")
    line = refused("train", *cli.detection, "seed=custom", "seed.weights=other.pth", "hydra.run.dir=run")
    assert "other.pth: its names (layer.weight" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k4_e3'], 2]", ["kernel 4"]),
        ("[[8, 6], ['k3_e1'], 1]|[[7, 8], ['k3_e3'], 2]", ["stage 2 takes 7"]),
        ("kind: mobile\nstages: []\n", ["net.txt"]),
        ("", ["empty"]),
        ("[[8, 6], __import__('os').getcwd(), 1]", ["stage 1"]),
    ],
)
def test_malformed_architectures(refused, cli, text, words):
    (cli.here / "net.txt").write_text(text)
    line = refused("train", *cli.detection, "architecture=net.txt", "hydra.run.dir=run")
    assert [word for word in ["net.txt", *words] if word not in line] == []


def test_checkpoint_of_another_network(refused, cli, runs):
    line = refused(
        "train",
        *cli.detection,
        "architecture=mobilenet_v2",
        "remap=random",
        f"checkpoint={runs.train}",
        "hydra.run.dir=run",
    )
    assert "last.ckpt: does not fit this network" in line
    line = refused("train", *cli.detection, f"checkpoint={runs.search}", "hydra.run.dir=run")
    assert "last.ckpt: does not fit this network" in line


def test_a_supernet_that_lacks_the_architecture(refused, cli, runs):
    line = refused(
        "train",
        *cli.detection,
        "architecture=mobilenet_v2",
        "remap.source=supernet",
        f"remap.supernet={runs.search}",
        "hydra.run.dir=run",
    )
    assert "the supernet" in line


def test_checkpoint_away_from_its_run(refused, cli, runs):
    shutil.copy(runs.train / "checkpoints" / "last.ckpt", cli.here / "alone.ckpt")
    line = refused("evaluate", "checkpoint=alone.ckpt", "hydra.run.dir=run")
    assert "alone.ckpt: no config.yaml" in line


@pytest.mark.parametrize("entry", ["train", "search"])
def test_a_failing_second_start_loses_nothing(refused, cli, runs, tmp_path, entry):
    """Nothing that took time, and no figures; the settings are those of the last start."""
    shutil.copytree(getattr(runs, entry), tmp_path / "run")
    kept = [
        path
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and path.suffix not in {".log"} and ".hydra" not in path.parts
    ]
    before = {path: path.read_bytes() for path in kept}
    small = cli.search if entry == "search" else cli.detection
    wrong = (
        ["data.root=nowhere_at_all", "data=coco"] if entry == "train" else ["seed=custom", "seed.weights=gone.pth"]
    )
    small = [text for text in small if not text.startswith("data.") or entry == "search"]
    refused(entry, *small, *wrong, f"hydra.run.dir={tmp_path / 'run'}")
    changed = {path.name for path in kept if path.read_bytes() != before[path]}
    assert changed <= {"config.yaml"}


def test_traceback_on_request(cli):
    with pytest.raises(ConfigError, match="weight_steps=0"):
        cli.start("search", *cli.search, "search.weight_steps=0", "hydra.run.dir=run", full_error=True)


def test_a_found_architecture_in_a_folder_with_spaces_and_quotes(cli):
    folder = cli.here / "it's a (run) = {1}"
    save_architecture(load_architecture("mobile_small"), folder / "architecture.yaml")
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
    small = [text for text in cli.detection if text.split("=")[0] not in {one.split("=")[0] for one in short}]
    cli.start("train", *small, *short, f"architecture={folder}", "hydra.run.dir=run")
    assert load_architecture(cli.here / "run") == load_architecture("mobile_small")
