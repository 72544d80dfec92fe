import contextlib
import io
import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
import torch.distributed as dist
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fna_lightning.data.batches import DetectionBatch
from fna_lightning.detectors import Detections
from fna_lightning.errors import ConfigError, DataError
from fna_lightning.tasks import CocoMetric
from fna_lightning.tasks.coco_scores import FIGURES

CATEGORIES = [2, 5, 9, 40]
ORIGINAL = (240, 320)


@pytest.fixture
def annotations(tmp_path):
    """Twelve images: crowds, objects of all sizes, images without any, ids with gaps."""
    generator = np.random.default_rng(0)
    images = [{"id": 7 * i + 1, "height": ORIGINAL[0], "width": ORIGINAL[1]} for i in range(12)]
    entries = []
    for image in images[:-2]:
        for _ in range(generator.integers(1, 9)):
            w, h = generator.uniform(8, 150, 2)
            entries.append(
                {
                    "id": 3 * len(entries) + 11,
                    "image_id": image["id"],
                    # No object of the last category.
                    "category_id": int(generator.choice(CATEGORIES[:3])),
                    "bbox": [float(generator.uniform(0, 160)), float(generator.uniform(0, 90)), w, h],
                    # As with outlines, the area is less than the box's.
                    "area": 0.7 * w * h,
                    "iscrowd": int(generator.random() < 0.15),
                }
            )
    path = tmp_path / "val.json"
    categories = [{"id": c, "name": f"thing {c}"} for c in CATEGORIES]
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return path


def batches(path, scale=1.0, per_image=150):
    """Batches of 5 with detections: shaken annotations and noise; images of `scale` times the original."""
    content = json.loads(path.read_text())
    generator = torch.Generator().manual_seed(1)
    predictions, ids = [], []
    for image in content["images"]:
        truth = [e for e in content["annotations"] if e["image_id"] == image["id"]]
        boxes = torch.tensor([e["bbox"] for e in truth]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = (boxes + torch.randn(boxes.shape, generator=generator) * 3).repeat(2, 1)
        labels = torch.tensor([CATEGORIES.index(e["category_id"]) for e in truth], dtype=torch.int64)
        noise = torch.rand(per_image - len(boxes), 4, generator=generator) * 120
        noise[:, 2:] += noise[:, :2]
        boxes = torch.cat([boxes, noise])
        labels = torch.cat([labels.repeat(2), torch.randint(len(CATEGORIES), (len(noise),), generator=generator)])
        scores = torch.rand(len(boxes), generator=generator)
        predictions.append(Detections(boxes * scale, scores, labels))
        ids.append(image["id"])
    # Nothing found in one image that has objects.
    predictions[0] = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    size = torch.tensor([int(side * scale) for side in ORIGINAL])
    for start in range(0, len(ids), 5):
        some = ids[start : start + 5]
        batch = DetectionBatch(
            torch.zeros(len(some), 3, 1, 1),
            [torch.zeros(0, 4)] * len(some),
            [torch.zeros(0, dtype=torch.int64)] * len(some),
            size.repeat(len(some), 1),
            torch.tensor(ORIGINAL).repeat(len(some), 1),
            torch.tensor(some),
        )
        yield predictions[start : start + 5], batch


def fill(metric, *args, **kwargs):
    for predictions, batch in batches(metric._annotations, *args, **kwargs):
        metric.update(predictions, batch)
    return metric


def referee(path, results, image_ids=None):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        if image_ids:
            evaluator.params.imgIds = image_ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def own_results(path):
    """The results file written by hand, from the same detections."""
    return [
        {
            "image_id": int(image),
            "category_id": CATEGORIES[int(label)],
            "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
            "score": float(score),
        }
        for predictions, batch in batches(path)
        for image, found in zip(batch.image_ids, predictions, strict=True)
        for (x1, y1, x2, y2), score, label in zip(found.boxes, found.scores, found.labels, strict=True)
    ]


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_equals_pycocotools(annotations, backend, capfd):
    metric = fill(CocoMetric(annotations, CATEGORIES, backend))
    figures = metric.compute()
    assert capfd.readouterr().out == ""
    expected = referee(annotations, own_results(annotations))
    assert list(figures) == list(FIGURES)
    assert figures == dict(zip(FIGURES, expected.stats.tolist(), strict=True))
    assert 0.05 < figures["mAP"] < 0.95
    assert figures["mAR_10"] < figures["mAR_100"]
    json.dumps(figures, allow_nan=False)

    precision = expected.eval["precision"][..., 0, -1]
    per_class = {f"thing {c}": precision[:, :, k].mean() for k, c in enumerate(CATEGORIES[:3])}
    assert metric.per_class() == pytest.approx({**per_class, "thing 40": -1.0})


def test_boxes_are_scaled_back(annotations):
    full = fill(CocoMetric(annotations, CATEGORIES))
    half = fill(CocoMetric(annotations, CATEGORIES), scale=0.5)
    # Halving is exact in floating point, so every figure must be the same.
    assert half.compute() == full.compute()
    assert half.results()[0] == full.results()[0]


def test_each_axis_has_its_own_scale(annotations):
    metric = CocoMetric(annotations, CATEGORIES)
    predictions, batch = next(batches(annotations))
    predictions[1] = Detections(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.ones(1), torch.tensor([2]))
    batch.sizes = torch.tensor([[480, 160]]).repeat(5, 1)
    metric.update(predictions, batch)
    assert metric.results()[0] == {
        "image_id": 8,
        "category_id": 9,
        "bbox": [20.0, 10.0, 40.0, 20.0],
        "score": 1.0,
    }


@pytest.mark.parametrize("backend", ["faster_coco_eval", "pycocotools"])
def test_finding_nothing(annotations, backend):
    metric = CocoMetric(annotations, CATEGORIES, backend)
    assert set(metric.compute().values()) == {0.0}
    for predictions, batch in batches(annotations):
        nothing = [Detections(f.boxes[:0], f.scores[:0], f.labels[:0]) for f in predictions]
        metric.update(nothing, batch)
    assert set(metric.compute().values()) == {0.0}
    assert metric.results() == []


def test_a_part_is_scored_on_its_own_images(annotations):
    metric = CocoMetric(annotations, CATEGORIES)
    predictions, batch = next(batches(annotations))
    metric.update(predictions, batch)
    ids = batch.image_ids.tolist()
    results = [entry for entry in own_results(annotations) if entry["image_id"] in ids]
    expected = referee(annotations, results, ids)
    assert metric.compute() == dict(zip(FIGURES, expected.stats.tolist(), strict=True))
    metric.reset()
    assert metric.results() == []
    assert metric.per_class() == {}


def test_repeated_images_count_once(annotations):
    metric = fill(CocoMetric(annotations, CATEGORIES))
    expected, results = metric.compute(), metric.results()
    fill(metric)
    assert metric.compute() == expected
    assert metric.results() == results


def test_results_file(annotations, tmp_path):
    metric = fill(CocoMetric(annotations, CATEGORIES))
    figures = metric.compute()
    path = tmp_path / "results.json"
    path.write_text("old")
    metric.write_results(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.json", "val.json"]
    expected = referee(annotations, str(path))
    assert figures == dict(zip(FIGURES, expected.stats.tolist(), strict=True))
    metric.save_results(tmp_path / "run")
    (saved,) = (tmp_path / "run").iterdir()
    assert (saved.name, saved.read_text()) == ("detections.json", path.read_text())


def test_a_results_file_that_cannot_be_written_leaves_the_old_one(annotations, tmp_path, monkeypatch):
    metric = fill(CocoMetric(annotations, CATEGORIES))
    path = tmp_path / "results.json"
    path.write_text("old")

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="no space"):
        metric.write_results(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.json", "val.json"]
    assert path.read_text() == "old"


def test_files_made_by_hand(annotations):
    # Numbered from 0, without area and crowd flag: both libraries alone would fail or score too low.
    content = json.loads(annotations.read_text())
    content["annotations"] = [
        {"id": i, **{key: entry[key] for key in ("image_id", "category_id", "bbox")}}
        for i, entry in enumerate(content["annotations"])
    ]
    annotations.write_text(json.dumps(content))
    figures = [fill(CocoMetric(annotations, CATEGORIES, b)).compute() for b in ("pycocotools", "faster_coco_eval")]
    assert figures[0] == figures[1]
    for number, entry in enumerate(content["annotations"], start=1):
        entry.update(id=number, area=entry["bbox"][2] * entry["bbox"][3], iscrowd=0)
    annotations.write_text(json.dumps(content))
    expected = referee(annotations, own_results(annotations))
    assert figures[0] == dict(zip(FIGURES, expected.stats.tolist(), strict=True))


def test_errors_name_the_cause(annotations, tmp_path):
    with pytest.raises(DataError, match=r"missing\.json: no such annotation file"):
        CocoMetric(tmp_path / "missing.json", CATEGORIES)
    with pytest.raises(ConfigError, match="backend=fast: choose one of faster_coco_eval, pycocotools"):
        CocoMetric(annotations, CATEGORIES, "fast")
    with pytest.raises(ConfigError, match="label 3, but the data set has only 2 categories"):
        fill(CocoMetric(annotations, CATEGORIES[:2]))
    broken = tmp_path / "broken.json"
    broken.write_text('{"images": []}')
    with pytest.raises(DataError, match=r"broken\.json: no COCO annotation file \(KeyError: 'annotations'\)"):
        CocoMetric(broken, CATEGORIES).compute()
    metric = CocoMetric(annotations, CATEGORIES)
    predictions, batch = next(batches(annotations))
    batch.image_ids[2] = 5
    metric.update(predictions, batch)
    with pytest.raises(DataError, match=r"val\.json: evaluated image 5 is not among the images"):
        metric.compute()


def _rank(rank, annotations, folder, outcome):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    metric = CocoMetric(annotations, CATEGORIES)
    # Batch 0 goes to both ranks, as a sampler repeats images to even out the ranks.
    for number, (predictions, batch) in enumerate(batches(annotations)):
        if number == 0 or number % 2 == rank:
            metric.update(predictions, batch)
    answer = metric.compute(), metric.per_class(), metric.results()
    annotations.with_name("broken.json").write_text("{}")
    metric._annotations, metric._truth = annotations.with_name("broken.json"), None
    try:
        metric.compute()
    except DataError as error:
        outcome.put((*answer, str(error)))
    dist.destroy_process_group()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be quick")
def test_two_ranks_score_as_one(annotations, tmp_path):
    metric = fill(CocoMetric(annotations, CATEGORIES))
    expected = metric.compute(), metric.per_class(), metric.results()
    context = multiprocessing.get_context("fork")
    outcome = context.Queue()
    ranks = [context.Process(target=_rank, args=(r, annotations, tmp_path, outcome)) for r in range(2)]
    for rank in ranks:
        rank.start()
    try:
        answers = [outcome.get(timeout=60) for _ in ranks]
    finally:
        for rank in ranks:
            rank.join(10)
            rank.kill()
    for *answer, error in answers:
        assert tuple(answer) == expected
        assert "broken.json: no COCO annotation file" in error
