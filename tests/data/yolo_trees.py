"""Small sets with YOLO's label files, which a test can break."""

import cv2
import numpy as np
import yaml

from fna_lightning.data import YoloDataModule

SIZE = (64, 128)
"""Height and width, of which halves are exact numbers."""
LINES = {
    "train": ["0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.125 0.25\n", "1 0.5 0.5 1 1", "0 0.75 0.5 0.5 0.25\n"],
    "val": ["1 0.25 0.5 0.25 0.25", "0 0.5 0.25 0.25 0.5"],
}


class YoloSet:
    """Three training and two validation pictures, `images/<split>` beside `labels/<split>`."""

    def __init__(self, root, images="images/{}", labels="labels/{}"):
        self.root, self.images, self.labels = root, images, labels
        for split, texts in LINES.items():
            for number, text in enumerate(texts):
                self.add(split, f"{split}{number}", text)
        self.describe(train=images.format("train"), val=images.format("val"), names=["cell", "dot"])

    def add(self, split, name, text, size=SIZE):
        picture = self.root / self.images.format(split) / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        seed = [ord(letter) for letter in name]
        assert cv2.imwrite(str(picture), np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))
        if text is not None:
            self.label(split, name).parent.mkdir(parents=True, exist_ok=True)
            self.label(split, name).write_text(text)

    def label(self, split, name):
        return self.root / self.labels.format(split) / f"{name}.txt"

    def describe(self, file="data.yaml", **content):
        (self.root / file).write_text(yaml.safe_dump(content, sort_keys=False))

    def module(self, **settings):
        return YoloDataModule(self.root, **{"size": [32, 64], "batch_size": 1, "num_workers": 0, **settings})

    def ready(self, **settings):
        data = self.module(**settings)
        data.setup("fit")
        return data


def content(data):
    """Split -> picture -> sorted (class, box in pixels)."""
    return {
        split: {
            dataset.path(index).name: sorted((name, tuple(box)) for box, name, _ in dataset.truth(index))
            for index in range(len(dataset))
        }
        for split, dataset in (("train", data.train_dataset), ("val", data.val_dataset))
    }
