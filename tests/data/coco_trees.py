"""Small sets in COCO's layout, which a test can break."""

import json
from pathlib import Path

import cv2
import numpy as np


class CocoSet:
    """A small detection set on disk that a test can break."""

    def __init__(self, root: Path):
        self.root = root
        rng = np.random.default_rng(0)
        for split, count in (("train2017", 6), ("val2017", 3)):
            (root / split).mkdir(parents=True)
            images, annotations = [], []
            for k in range(count):
                height, width = (60 + 8 * k, 80) if k % 2 else (64, 48 + 8 * k)
                name = f"{k:04d}.{'png' if k == 1 else 'jpg'}"
                cv2.imwrite(str(root / split / name), rng.integers(0, 256, (height, width, 3), np.uint8))
                images.append({"id": 10 + 7 * k, "file_name": name, "height": height, "width": width})
                for j in range(k % 3):  # images 0 and 3 have no annotation
                    annotations.append(
                        {
                            "id": 100 + len(annotations),
                            "image_id": 10 + 7 * k,
                            "category_id": (3, 8, 90)[(j + k) % 3],
                            "bbox": [3.25 + 5 * j, 4, 20.5, 16 + k],
                            "area": 300.5,
                            "iscrowd": 0,
                        }
                    )
            # Out of order and with gaps, as in COCO.
            categories = [{"id": 90, "name": "brush"}, {"id": 3, "name": "car"}, {"id": 8, "name": "truck"}]
            self.write({"images": images, "annotations": annotations, "categories": categories}, split)

    def file(self, split: str = "train2017") -> Path:
        return self.root / "annotations" / f"instances_{split}.json"

    def read(self, split: str = "train2017") -> dict:
        return json.loads(self.file(split).read_text())

    def write(self, content, split: str = "train2017") -> None:
        self.file(split).parent.mkdir(exist_ok=True)
        self.file(split).write_text(json.dumps(content))
