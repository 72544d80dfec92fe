"""Small sets in Pascal VOC's layout, which a test can break."""

import re

import cv2
import numpy as np

from fna_lightning.data import VocDataModule

SIZE = (48, 64)


def xml(name, objects, size=SIZE):
    """An annotation file; objects are (class, corners, difficult)."""
    parts = [
        f"""
    <object>
        <name>{kind}</name>
        <truncated>1</truncated>
        <occluded>1</occluded>
        <bndbox>
            <xmax>{corners[2]}</xmax>
            <xmin>{corners[0]}</xmin>
            <ymax>{corners[3]}</ymax>
            <ymin>{corners[1]}</ymin>
        </bndbox>
        <difficult>{difficult:d}</difficult>
        <part>
            <name>head</name>
            <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
        </part>
    </object>"""
        for kind, corners, difficult in objects
    ]
    return f"""<annotation>
    <folder>VOC</folder>
    <filename>{name}.jpg</filename>
    <source><annotation>nested</annotation></source>
    <size>
        <width>{size[1]}</width>
        <height>{size[0]}</height>
        <depth>3</depth>
    </size>{"".join(parts)}
</annotation>
"""


class Year:
    """One year's folder."""

    def __init__(self, root):
        self.root = root
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (root / folder).mkdir(parents=True)

    def add(self, name, objects, ending="jpg"):
        generator = np.random.default_rng(int(re.sub(r"\D", "", name)))
        picture = generator.integers(0, 256, (*SIZE, 3), np.uint8)
        cv2.imwrite(str(self.root / "JPEGImages" / f"{name}.{ending}"), picture)
        self.file(name).write_text(xml(name, objects).replace(".jpg", f".{ending}"))

    def list(self, split, names):
        (self.root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")

    def file(self, name):
        return self.root / "Annotations" / f"{name}.xml"

    def change(self, name, old, new):
        text = self.file(name).read_text()
        assert old in text
        self.file(name).write_text(text.replace(old, new, 1))


def ready(root, **settings):
    data = VocDataModule(root, **{"size": [48, 64], "batch_size": 2, "num_workers": 0, "flip": 0.0, **settings})
    data.setup("fit")
    return data
