"""Small sets in the layout of Cityscapes, which a test can break."""

import cv2
import numpy as np

from fna_lightning.data import CityscapesDataModule

CLASSES = {"road": 7, "person": [24, 25], "sky": 23}
IDS = (7, 24, 25, 23, 0, 4)
"""Those of the classes, and two that are ignored."""


class Streets:
    """A set of 6 training and 3 validation pictures in two cities."""

    def __init__(self, root):
        self.root = root
        for k in range(6):
            self.add("train", f"{('aachen', 'ulm')[k % 2]}/{k:02d}", (40 + 2 * k, 64), seed=k)
        for k in range(3):
            self.add("val", f"bonn/{k:02d}", (48, 60 + 4 * k), seed=10 + k)

    def picture(self, split, name, suffix="_leftImg8bit.png"):
        return self.root / "leftImg8bit" / split / f"{name}{suffix}"

    def label(self, split, name, suffix="_gtFine_labelIds.png"):
        return self.root / "gtFine" / split / f"{name}{suffix}"

    def add(self, split, name, size, seed=0, ids=IDS, image_suffix="_leftImg8bit.png"):
        rng = np.random.default_rng(seed)
        blocks = rng.choice(np.array(ids, np.uint8), (4, 5))
        blocks.flat[: len(ids)] = ids
        stored = cv2.resize(blocks, size[::-1], interpolation=cv2.INTER_NEAREST)
        write(self.picture(split, name, image_suffix), rng.integers(0, 256, (*size, 3), np.uint8))
        write(self.label(split, name), stored)

    def ids(self, split, name):
        return cv2.imread(str(self.label(split, name)), cv2.IMREAD_UNCHANGED)

    def module(self, **settings):
        defaults = {"classes": CLASSES, "crop": [32, 48], "batch_size": 2, "num_workers": 0}
        return CityscapesDataModule(self.root, **{**defaults, **settings})

    def ready(self, **settings):
        data = self.module(**settings)
        data.setup()
        return data


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
