"""The set of `cityscapes_trees` as folders of pictures and masks: grey, with a palette, in colours."""

import re
import shutil

import cv2
import numpy as np
from cityscapes_trees import CLASSES, IDS
from PIL import Image

from fna_lightning.data import MasksDataModule

COLOURS = {7: (128, 64, 128), 24: (220, 20, 60), 25: (255, 0, 0), 23: (70, 130, 180), 0: (0, 0, 0), 4: (1, 2, 3)}
TABLE = {
    name: [COLOURS[label_id] for label_id in (ids if isinstance(ids, list) else [ids])]
    for name, ids in CLASSES.items()
}
"""Of a class its colours, one or two."""
IGNORED = [COLOURS[0], COLOURS[4]]


def grey(ids):
    return Image.fromarray(ids)


def palette(ids):
    picture = Image.fromarray(ids, "P")
    table = np.zeros((256, 3), np.uint8)
    table[list(COLOURS)] = list(COLOURS.values())
    picture.putpalette(table.ravel().tolist())
    return picture


def coloured(ids):
    table = np.zeros((256, 3), np.uint8)
    table[list(COLOURS)] = list(COLOURS.values())
    return Image.fromarray(table[ids])


SETTINGS = {
    grey: {"classes": CLASSES, "ignored": [0, 4]},
    palette: {"classes": CLASSES, "ignored": [0, 4]},
    coloured: {"colours": TABLE, "ignored": IGNORED},
}


class MaskSet:
    """The streets of another set as pictures and masks.

    Args:
        root: Where it is written.
        streets: The other set.
        write: `grey`, `palette` or `coloured`.
        names: File name of a picture and of its mask, of split, city and number.
    """

    def __init__(self, root, streets, write=grey, names=("images/{0}/{1}_{2}.png", "masks/{0}/{1}_{2}.png")):
        self.root, self.write = root, write
        for picture in sorted(streets.root.rglob("*_leftImg8bit.png")):
            split, city, number = re.search(r"/(\w+)/(\w+)/(\d+)_leftImg8bit", picture.as_posix()).groups()
            ours, mask = (root / name.format(split, city, number) for name in names)
            for path in (ours, mask):
                path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, ours)
            write(streets.ids(split, f"{city}/{number}")).save(mask)

    def module(self, **settings):
        own = {"crop": [32, 48], "batch_size": 1, "num_workers": 0, **SETTINGS[self.write]}
        return MasksDataModule(self.root, **{**own, **settings})

    def ready(self, **settings):
        data = self.module(**settings)
        data.setup("fit")
        return data

    def change(self, name, ids):
        """Write another mask in place of one."""
        self.write(ids).save(self.root / name)


def blocks(size, seed=0):
    """Ids (H, W) uint8 of a mask."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.choice(np.array(IDS, np.uint8), (4, 5)), size[::-1], interpolation=cv2.INTER_NEAREST)
