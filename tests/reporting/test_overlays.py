"""What is drawn into pictures of their own size."""

import numpy as np

from fna_lightning.reporting.pictures import boxes_on, labels_on


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def test_boxes_are_where_they_are_said_to_be():
    pixels = grey(300, 400)
    drawn = boxes_on(pixels, np.array([[100, 120, 200, 220]], np.float32), [1], ["cell"], [0.5])
    assert (pixels == 128).all()
    changed = (drawn != pixels).any(axis=2)
    assert drawn[170, 100].tolist() == [0xD5, 0x5E, 0x00]  # the second colour, on the left side
    assert changed[[170, 220, 120], [200, 150, 190]].all()
    assert not changed[125:216, 105:196].any()  # inside
    assert not changed[:, 210:].any()
    assert changed[100:119, 101:130].any()  # the name, above


def test_names_stay_in_the_picture():
    corners = np.array([[0, 0, 399, 299], [390, 0, 400, 300], [-20, -20, 500, 500]], np.float32)
    drawn = boxes_on(grey(300, 400), corners, [0, 1, 2], ["x" * 50, "b", "c"], [1.0, 0.9, 0.8])
    assert drawn.shape == (300, 400, 3)
    for size in ((1, 1), (3, 900)):
        assert boxes_on(grey(*size), corners, [0, 1, 2], ["a", "b", "c"], [1.0, 0.9, 0.8]).shape == (*size, 3)
        assert labels_on(grey(*size), np.zeros(size, np.uint8), [(9, 9, 9)], ["a"]).shape == (*size, 3)


def test_labels_are_in_their_colours_and_the_picture_shows_through():
    pixels = grey(200, 300)
    pixels[:, :150] = 200
    labels = np.zeros((200, 300), np.uint8)
    labels[100:] = 1
    labels[:, 290:] = 255
    drawn = labels_on(pixels, labels, [(10, 20, 30), (200, 100, 0)], ["sky", "road"])
    assert drawn[20, 20].tolist() == [105, 110, 115]
    assert drawn[20, 280].tolist() == [69, 74, 79]
    assert drawn[180, 20].tolist() == [200, 150, 100]
    assert drawn[50, 298].tolist() == [128, 128, 128]  # of no class
    assert drawn[100, 50].tolist() == [255, 255, 255]  # the border
    assert [10, 20, 30] in drawn[40:60, 100:190].reshape(-1, 3).tolist()  # the name on its colour, far inside
