"""Networks in use: their predictions are evaluate.py's, and the command touches nothing but its own files."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from entries import start
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from pycocotools.coco import COCO

import fna_lightning
from fna_lightning.backbones import build_backbone
from fna_lightning.errors import CheckpointError, ConfigError, DataError
from fna_lightning.files import CONF_DIR
from fna_lightning.predict import main
from fna_lightning.runs import build

SIZES = ((48, 64), (64, 48), (50, 71), (93, 40), (64, 64))
BOXES = {3: "cell", 7: "plate"}
SETTINGS = ("architecture", "detector", "task", "data", "cost", "optimizer", "schedule", "random_seed")


def picture(number, size):
    """Blobs of all colours, so that a network finds different things in different places."""
    noise = np.random.default_rng(number).integers(0, 256, (*(side // 8 + 1 for side in size), 3))
    return cv2.resize(noise.astype(np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)


def write_pictures(folder, names):
    folder.mkdir(parents=True)
    for number, (name, size) in enumerate(zip(names, SIZES, strict=True)):
        assert cv2.imwrite(str(folder / name), picture(number, size))


@torch.no_grad()
def balance(network):
    """Let scores be of all sizes, boxes lie near their anchors, and every label come somewhere."""
    if hasattr(network, "aspp"):
        logits = network.eval()(torch.from_numpy(picture(0, (64, 64))).permute(2, 0, 1)[None])
        network.classifier.bias -= logits.mean((0, 2, 3))
    elif hasattr(network, "head"):
        network.head.regression_head.bbox_reg.weight *= 0.02
        network.head.classification_head.cls_logits.weight *= 0.05
        network.head.classification_head.cls_logits.bias.fill_(-2.5)


def write_run(folder, names, randomise, *overrides):
    """A run directory, its network filled with random numbers."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", list(overrides))
    config = OmegaConf.masked_copy(config, [key for key in SETTINGS if key in config])
    parts = build.resolve_parts(config)
    backbone = build_backbone(parts["backbone"], **build.map_settings(config, parts["backbone"]))
    network = randomise(build.build_network(config, backbone, len(names), parts))
    balance(network)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    (folder / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": state, "class_names": list(names)}, folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    return folder


@pytest.fixture(scope="module")
def detector(tmp_path_factory, randomise):
    """A run on pictures of many sizes whose file numbers its categories with gaps."""
    folder = tmp_path_factory.mktemp("detection")
    root = folder / "set"
    names = [f"{number}.png" for number in range(len(SIZES))]
    for split in ("train", "val"):
        write_pictures(root / split, names)
        images = [
            {"id": 10 * n + 5, "file_name": name, "height": SIZES[n][0], "width": SIZES[n][1]}
            for n, name in enumerate(names)
        ]
        boxes = [
            {"id": n, "image_id": 10 * n + 5, "category_id": (3, 7)[n % 2], "bbox": [2, 3, 20, 20], "area": 400,
             "iscrowd": 0}
            for n in range(len(names))
        ]  # fmt: skip
        categories = [{"id": number, "name": name} for number, name in BOXES.items()]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(content))
    given = [f"data.{split}_annotations={split}.json" for split in ("train", "val")]
    given += [f"data.{split}_images={split}" for split in ("train", "val")]
    given += ["data.short_side=64", "data.long_side=96", "data.batch_size=2", "data.num_workers=0"]
    small = ["detector.fpn_channels=8", "detector.head_depth=1", "cost.input_size=[64,64]"]
    overrides = ["experiment=demo/train", "data=coco", f"data.root={root}", *given, *small]
    run = write_run(folder / "run", BOXES.values(), randomise, *overrides)
    return SimpleNamespace(run=run, pictures=root / "val", names=names)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory, randomise):
    """A run on pictures of many sizes that are resized, in folders of cities."""
    folder = tmp_path_factory.mktemp("segmentation")
    root = folder / "set"
    for split in ("train", "val"):
        names = [f"{number}_leftImg8bit.png" for number in range(len(SIZES))]
        write_pictures(root / "leftImg8bit" / split / "ulm", names)
        (root / "gtFine" / split / "ulm").mkdir(parents=True)
        for number, size in enumerate(SIZES):
            labels = np.random.default_rng(number).choice([4, 9, 11, 6], size).astype(np.uint8)
            cv2.imwrite(str(root / "gtFine" / split / "ulm" / f"{number}_gtFine_labelIds.png"), labels)
    given = ["data.classes={ground: 4, disc: [9, 11], wall: 6}", "data.ignored=[255]", "data.resize=[56,72]"]
    given += ["data.crop=[32,32]", "data.batch_size=2", "data.num_workers=0", "cost.input_size=[64,64]"]
    overrides = [
        "experiment=demo/segmentation", "data=cityscapes", f"data.root={root}", "detector.channels=16", *given
    ]  # fmt: skip
    # In another order than the set's, as where training went on from another network.
    run = write_run(folder / "run", ("wall", "ground", "disc"), randomise, *overrides)
    return SimpleNamespace(run=run, pictures=root / "leftImg8bit" / "val")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def predicted(here):
    """predicted(run, images, ...) -> the folder of results."""

    def run(checkpoint, images, *overrides, code=0):
        assert main([f"checkpoint={checkpoint}", f"images={images}", "output=found", *overrides]) == code
        return here / "found"

    return run


def read(path):
    return json.loads(path.read_text())


def evaluated(run, *overrides):
    quiet = ("trainer.enable_progress_bar=false", "hydra.run.dir=evaluation")
    start("evaluate", f"checkpoint={run}", *overrides, *quiet)


def by_picture(entries, names_of_images, names_of_categories):
    """Picture -> rows of class, score and corners, best first."""
    found = {name: [] for name in names_of_images.values()}
    for entry in entries:
        x, y, width, height = entry["bbox"]
        row = (names_of_categories[entry["category_id"]], entry["score"], x, y, x + width, y + height)
        found[names_of_images[entry["image_id"]]].append(row)
    return found


def assert_alike(found, wanted):
    assert set(found) == set(wanted)
    assert sum(map(len, wanted.values())) > 20
    for name, rows in wanted.items():
        assert [row[0] for row in found[name]] == [row[0] for row in rows]
        np.testing.assert_allclose(
            np.array([row[1:] for row in found[name]]), np.array([row[1:] for row in rows]), rtol=1e-5, atol=1e-3
        )


def state(root):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in root.rglob("*")}


def video(path, sizes=(48, 64), frames=10, rate=20.0):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, sizes[::-1])
    for number in range(frames):
        writer.write(picture(number, sizes))
    writer.release()
    return path


def frames_of(path):
    """Frames, RGB, and how many there are a second."""
    source, frames = cv2.VideoCapture(str(path)), []
    while (read := source.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return frames, source.get(cv2.CAP_PROP_FPS)


def test_boxes_are_those_of_an_evaluation(detector, predicted):
    before = state(detector.pictures)
    folder = predicted(detector.run, detector.pictures, "threshold=0")
    evaluated(detector.run)
    ids = {10 * number + 5: name for number, name in enumerate(detector.names)}
    wanted = by_picture(read(folder.parent / "evaluation" / "detections.json"), ids, BOXES)
    # Read by a program that shares no code with this one.
    found = COCO(str(folder / "detections.json"))
    images = {number: image["file_name"] for number, image in found.imgs.items()}
    categories = {number: category["name"] for number, category in found.cats.items()}
    assert_alike(by_picture(found.dataset["annotations"], images, categories), wanted)
    assert_alike(by_picture(read(folder / "predictions.json"), images, categories), wanted)
    assert len(found.loadRes(str(folder / "predictions.json")).anns) == len(found.anns)
    assert {(image["width"], image["height"]) for image in found.imgs.values()} == {s[::-1] for s in SIZES}
    network = fna_lightning.load(detector.run)
    results = network.predict([detector.pictures / name for name in detector.names], threshold=0)
    rows = {
        name: [(kind, score, *box) for kind, score, box in zip(r.names, r.scores, r.boxes, strict=True)]
        for name, r in zip(detector.names, results, strict=True)
    }
    assert_alike(rows, wanted)
    assert state(detector.pictures) == before
    drawn = [cv2.imread(str(folder / "pictures" / name)) for name in detector.names]
    assert [each.shape[:2] for each in drawn] == list(SIZES)
    assert all((each != picture(n, SIZES[n])).any() for n, each in enumerate(drawn))


def test_labels_are_those_of_an_evaluation(segmenter, predicted):
    folder = predicted(segmenter.run, segmenter.pictures)
    evaluated(segmenter.run, "save_predictions=true")
    found = read(folder / "segmentations.json")
    ids, names = set(), set()
    for image in found["images"]:
        name = image["file_name"].removeprefix("ulm/").replace("_leftImg8bit", "")
        for kind in ("label_ids", "coloured"):
            own = cv2.imread(str(folder / image[kind]), cv2.IMREAD_UNCHANGED)
            wanted = folder.parent / "evaluation" / "predictions" / kind / name
            assert np.array_equal(own, cv2.imread(str(wanted), cv2.IMREAD_UNCHANGED))
            ids |= set(np.unique(own).tolist()) if kind == "label_ids" else set()
        assert cv2.imread(str(folder / image["drawn"])).shape[:2] == (image["height"], image["width"])
        names.add(name)
    assert len(names) == len(SIZES)
    assert len(ids) > 1
    assert {each["name"]: each["id"] for each in found["categories"]} == {"wall": 6, "ground": 4, "disc": 9}
    network = fna_lightning.load(segmenter.run)
    one = network.predict(segmenter.pictures / found["images"][2]["file_name"])
    own = cv2.imread(str(folder / found["images"][2]["label_ids"]), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.array([6, 4, 9])[one.labels], own)
    assert one.names == ("wall", "ground", "disc")
    assert tuple(one.coloured[7, 9]) == one.colours[one.labels[7, 9]]


def test_pictures_in_any_form_give_the_same(detector, segmenter):
    path = detector.pictures / "2.png"
    opened = Image.open(path)
    pixels = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    network = fna_lightning.load(detector.run / "checkpoints" / "last.ckpt")
    wanted = network.predict(str(path), threshold=0.1)
    assert len(wanted) > 3
    for form in (path, opened, opened.convert("RGBA"), pixels):
        found = network.predict(form, threshold=0.1)
        assert (found.names, found.size) == (wanted.names, SIZES[2])
        assert np.array_equal(found.boxes, wanted.boxes)
        assert np.array_equal(found.scores, wanted.scores)
    labels = fna_lightning.load(segmenter.run).predict([path, opened, pixels])
    assert all(np.array_equal(each.labels, labels[0].labels) for each in labels)
    assert network.predict([]) == []


def test_the_threshold_is_the_least_score(detector):
    network = fna_lightning.load(detector.run)
    every = network.predict(detector.pictures / "0.png", threshold=0)
    default, high = (network.predict(detector.pictures / "0.png", threshold=each) for each in (None, 0.5))
    assert default.scores.tolist() == [score for score in every.scores.tolist() if score >= 0.3]
    assert high.scores.tolist() == [score for score in every.scores.tolist() if score >= 0.5]
    assert len(every) > len(default) > len(high)


@pytest.mark.parametrize("images", ["pictures", "pictures/**/*.*", "[pictures/a.jpg,pictures/b,pictures/a.png]"])
def test_names_of_results(detector, here, predicted, images):
    """Sub-folders are kept, nothing is written twice, and what is no picture is not looked at."""
    for name in ("a.jpg", "a.png", "b/a.png", "b/c/a.PNG"):
        (here / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(len(name), (40, 40))).save(here / "pictures" / name)
    (here / "pictures" / "notes.txt").write_text("no picture")
    before = state(here / "pictures")
    folder = predicted(detector.run, images)
    found = {image["path"]: image["drawn"] for image in read(folder / "detections.json")["images"]}
    assert {os.path.relpath(path, "pictures") for path in found} == {"a.jpg", "a.png", "b/a.png", "b/c/a.PNG"}
    assert len(set(found.values())) == 4
    assert all((folder / drawn).is_file() for drawn in found.values())
    if not images.startswith("["):
        assert found["pictures/b/c/a.PNG"] == "pictures/b/c/a.png"
        assert {found["pictures/a.jpg"], found["pictures/a.png"]} == {"pictures/a.png", "pictures/a_2.png"}
    assert state(here / "pictures") == before


def test_what_was_written_is_not_looked_at_the_next_time(detector, here, predicted):
    Image.fromarray(picture(0, (40, 40))).save(here / "a.png")
    folder = predicted(detector.run, here)
    first = state(here / "found")
    assert len(read(predicted(detector.run, here) / "detections.json")["images"]) == 1
    assert set(state(folder)) == set(first)


def test_videos(detector, segmenter, here, predicted):
    source = video(here / "clip.mp4")
    frames, _ = frames_of(source)
    folder = predicted(detector.run, source, "every=3", "threshold=0", "batch_size=1")
    found = read(folder / "detections.json")
    assert [image["frame"] for image in found["images"]] == [0, 3, 6, 9]
    drawn, rate = frames_of(folder / "pictures" / "clip.mp4")
    assert (len(drawn), drawn[0].shape, rate) == (4, (48, 64, 3), pytest.approx(20 / 3, rel=0.01))
    network = fna_lightning.load(detector.run)
    for image in found["images"]:
        wanted = network.predict(frames[image["frame"]], threshold=0)
        scores = [each["score"] for each in found["annotations"] if each["image_id"] == image["id"]]
        assert scores == pytest.approx(wanted.scores.tolist(), abs=1e-5)
    shutil.rmtree(folder)
    folder = predicted(segmenter.run, source, "limit=2")
    (one, other) = read(folder / "segmentations.json")["images"]
    assert (one["drawn"], other["drawn"]) == ("pictures/clip.mp4",) * 2
    assert cv2.imread(str(folder / other["label_ids"]), cv2.IMREAD_UNCHANGED).shape == (48, 64)
    assert len(frames_of(folder / "pictures" / "clip.mp4")[0]) == 2


def test_broken_files_are_named_and_passed_over(detector, here, predicted, capfd):
    (here / "set").mkdir()
    content = (detector.pictures / "0.png").read_bytes()
    (here / "set" / "a.png").write_bytes(content)
    (here / "set" / "b.png").write_bytes(content[: len(content) // 2])
    (here / "set" / "c.jpg").write_text("no picture")
    (here / "set" / "d.mp4").write_bytes(b"no video")
    (here / "set" / "e.png").write_bytes(content)
    folder = predicted(detector.run, here / "set", code=1)
    said = capfd.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("passed over: ")]
    assert [line.split(":")[1].rpartition("/")[2] for line in lines] == ["b.png", "c.jpg", "d.mp4"]
    assert "2 pictures, 3 passed over" in said.out
    assert [image["file_name"] for image in read(folder / "detections.json")["images"]] == ["a.png", "e.png"]
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["a.png", "e.png"]


def test_a_video_that_breaks_off_keeps_what_was_read(detector, here, predicted, capfd):
    """Of this kind of file, which says at its beginning how many frames there are."""
    writer = cv2.VideoWriter(str(here / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(20):
        writer.write(picture(number, (48, 64)))
    writer.release()
    content = (here / "clip.avi").read_bytes()
    (here / "clip.avi").write_bytes(content[: len(content) // 2])
    folder = predicted(detector.run, here / "clip.avi", code=1)
    assert "clip.avi: breaks off after" in capfd.readouterr().err
    frames = [image["frame"] for image in read(folder / "detections.json")["images"]]
    assert frames == list(range(len(frames)))
    assert 3 < len(frames) < 18
    assert len(frames_of(folder / "pictures" / "clip.mp4")[0]) == len(frames)


def test_pixels_are_those_that_are_stored_whatever_a_tag_turns(detector, here):
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = Image.fromarray(picture(0, (48, 64)))
    stored.save(here / "turned.jpg", exif=turned, quality=100)
    stored.save(here / "plain.jpg", quality=100)
    network = fna_lightning.load(detector.run)
    one, other = network.predict([here / "turned.jpg", here / "plain.jpg"])
    assert one.size == (48, 64)
    assert np.array_equal(one.boxes, other.boxes)


def test_a_checkpoint_from_before_classes_were_kept(detector, here):
    shutil.copytree(detector.run, here / "old")
    path = here / "old" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    torch.save({"state_dict": content["state_dict"]}, path)
    assert fna_lightning.load(here / "old").class_names == ("cell", "plate")


def test_the_package_is_light():
    code = "import fna_lightning, sys; print(sorted({'torch', 'lightning', 'cv2'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def of_search(run, here):
    config = OmegaConf.load(run / "config.yaml")
    config.search = {"share": 0.5}
    OmegaConf.save(config, here / "config.yaml")
    shutil.copytree(run / "checkpoints", here / "checkpoints")
    return f"checkpoint={here}"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["images=nowhere.png"], ["nowhere.png: no such file or folder"]),
        (["images=a.png,b.png"], ["use key=[value1,value2] 2. To use it as string, quote the value"]),
        (["images=empty"], ["empty: no picture or video"]),
        (["images=*.tiff"], ["*.tiff: no file matches"]),
        (["images=*.txt"], ["*.txt: 1 files match, but none is a picture"]),
        (["threshold=1.5"], ["threshold=1.5: give a number, from 0 to 1"]),
        (["threshold=high"], ["threshold=high"]),
        (["output=notes.txt"], ["output=notes.txt: is a file"]),
        (["output=empty/.."], ["holds other files"]),
        (["output=notes.txt/below"], ["notes.txt/below: cannot be written"]),
        (["checkpoint=notes.txt"], ["notes.txt: is no readable weight file"]),
        (["checkpoint=gone"], ["gone: no such file"]),
        (["checkpoint=empty"], ["empty: holds no checkpoints/last.ckpt"]),
        (["device=tpu9"], ["device=tpu9: cannot be used"]),
        (["every=0"], ["every=0: give"]),
        (["tresh=0.5"], ["unknown key tresh: did you mean threshold?"]),
        (["threshold"], ["threshold: cannot be read"]),
    ],
)
def test_bad_input_is_told_in_one_line(detector, here, capsys, overrides, words):
    (here / "empty").mkdir()
    (here / "notes.txt").write_text("some text")
    given = {"checkpoint": detector.run, "images": detector.pictures, "output": "found"}
    given |= {key: value for key, _, value in (text.partition("=") for text in overrides) if value}
    arguments = [f"{key}={value}" for key, value in given.items()]
    assert main([*arguments, *(text for text in overrides if "=" not in text)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert all(word in lines[-1] for word in words), lines
    assert len([line for line in lines if line.strip() and not line.startswith("predicting")]) == 1
    assert not (here / "found").exists()


def test_networks_that_predict_nothing_of_this_kind(detector, here, randomise, capsys):
    images = f"images={detector.pictures}"
    assert main([of_search(detector.run, here), images]) == 2
    assert "is a search's" in capsys.readouterr().err
    seed = write_run(here / "seed", ("a", "b", "c"), randomise, "experiment=demo/seed")
    assert main([f"checkpoint={seed}", images]) == 2
    assert "is for classification, a seed for others" in capsys.readouterr().err
    assert main([images]) == 2
    assert capsys.readouterr().err == "error: checkpoint is not set: give checkpoint=<value>\n"
    assert main([f"checkpoint={detector.run}"]) == 2
    assert capsys.readouterr().err == "error: images is not set: give images=<value>\n"


def test_a_configuration_that_would_run_code(detector, here):
    shutil.copytree(detector.run, here / "run")
    config = OmegaConf.load(here / "run" / "config.yaml")
    config.task = {"_target_": "os.system", "command": "touch was_here"}
    OmegaConf.save(config, here / "run" / "config.yaml")
    with pytest.raises(ConfigError, match="settings may only name"):
        fna_lightning.load(here / "run")
    assert not (here / "was_here").exists()


def test_what_python_is_given(detector, segmenter):
    network = fna_lightning.load(detector.run)
    grey = np.zeros((8, 8), np.uint8)
    for wrong in (grey, grey[..., None], np.zeros((8, 8, 3)), Image.new("I;16", (8, 8)), 3):
        with pytest.raises(DataError, match=r"^picture: "):
            network.predict(wrong)
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        network.predict("gone.png")
    with pytest.raises(ConfigError, match=r"threshold=-1"):
        network.predict(detector.pictures / "0.png", threshold=-1)
    with pytest.raises(ConfigError, match=r"threshold=0\.5: is for boxes"):
        fna_lightning.load(segmenter.run).predict(detector.pictures / "0.png", threshold=0.5)


def test_classes_that_are_not_those_of_the_settings(segmenter, here):
    shutil.copytree(segmenter.run, here / "run")
    path = here / "run" / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    torch.save({**content, "class_names": ["wall", "ground", "moon"]}, path)
    with pytest.raises(CheckpointError, match=r"only the network has 'moon'"):
        fna_lightning.load(here / "run")
