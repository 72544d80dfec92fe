"""Label files that were resized as pictures are: noticed by the ids along their edges, and no others are."""

import logging

import cv2
import numpy as np
import pytest
from cityscapes_trees import Streets, write

from fna_lightning.data.check import examine
from fna_lightning.data.checking.edges import blended_share
from fna_lightning.data.checking.problems import Kind

INTERPOLATED = [cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC]


def regions(seed, ids=34, size=(240, 320)):
    """A map (H, W) uint8 of polygons with thin lines over them, as streets have."""
    rng = np.random.default_rng(seed)
    found = np.full(size, rng.integers(ids), np.uint8)
    for _ in range(25):
        points = rng.integers(0, size[::-1], 2) + rng.integers(-60, 60, (4, 2))
        cv2.fillPoly(found, [cv2.convexHull(points.astype(np.int32))], int(rng.integers(ids)))
    for _ in range(40):
        start = rng.integers(0, size[::-1], 2)
        end = start + rng.integers(-20, 20, 2)
        cv2.line(found, start.tolist(), end.tolist(), int(rng.integers(ids)), int(rng.integers(1, 4)))
    return found


def resized(ids, factor, how):
    return cv2.resize(ids, None, fx=factor, fy=factor, interpolation=how)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("factor", [0.5, 0.75, 1.3, 2, 4])
def test_interpolated_maps_and_others(seed, factor):
    ids = regions(seed)
    assert blended_share(ids) == 0
    assert blended_share(resized(ids, factor, cv2.INTER_NEAREST)) == 0
    for how in INTERPOLATED[: 1 if factor < 1 else 3]:
        if factor not in (2, 4) or how != cv2.INTER_AREA:
            assert blended_share(resized(ids, factor, how)) > 0.35


@pytest.mark.parametrize("ids", [2, 3, 5, 34, 256])
def test_noise_is_not_taken_for_it(ids):
    assert blended_share(np.random.default_rng(0).integers(0, ids, (400, 500), np.uint8)) == 0


def test_a_single_thin_object_is_not_taken_for_it():
    ids = np.repeat(np.array([[0] * 20 + [5] + [9] * 20], np.uint8), 90, axis=0)
    assert blended_share(ids) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (3, 1), (5000, 1)])
def test_maps_without_room_for_an_edge(shape):
    assert blended_share(np.zeros(shape, np.uint8)) == 0


def test_both_ways_and_whatever_the_order_of_ids():
    ids = resized(regions(0), 2, cv2.INTER_LINEAR)
    wanted = blended_share(ids)
    for other in (ids.T, ids[::-1], ids[:, ::-1], 255 - ids):
        assert blended_share(other) == wanted


def test_two_classes_with_a_third_along_their_edges(tmp_path, caplog):
    streets = Streets(tmp_path / "streets")
    for k in range(6):
        city = ("aachen", "ulm")[k % 2]
        streets.add("train", f"{city}/{k:02d}", (240, 320), seed=k)
        ids = np.where(regions(k, 2, (480, 640)), 7, 0).astype(np.uint8)
        ids = resized(ids, 0.5, cv2.INTER_LINEAR if k == 3 else cv2.INTER_NEAREST)
        write(streets.label("train", f"{city}/{k:02d}"), ids)
    for k in range(3):
        write(streets.label("val", f"bonn/{k:02d}"), regions(9)[:48, : 60 + 4 * k])
    data = streets.module(classes={"a": 0, "b": [*range(1, 7)], "c": 7, "rest": [*range(8, 34)]})
    found = [(p.kind, p.path.name) for p in examine(data).problems["training"] if p.kind is not Kind.UNSEEN_CLASS]
    assert found == [(Kind.BLENDED, "03_gtFine_labelIds.png")]
    with caplog.at_level(logging.WARNING):
        data.setup("fit")
    message = next(r.getMessage() for r in caplog.records if "interpolated" in r.getMessage())
    assert message.startswith("training set: label files that seem to be interpolated (1); the first: ")
    assert message.endswith("% of its edges an id lies between the two beside it, a pixel wide")
    assert len(data.train_dataset) == 6
