"""Sets as labelling tools export them in COCO's format: which file is of which split, and where the pictures are.

Roboflow writes `train/_annotations.coco.json` beside the pictures, and so `valid` and `test`; CVAT and Datumaro
`annotations/instances_<split>.json` with `images/<split>` or `images`, the split `default` for all; Label Studio
`result.json` with names that begin with `images/`; others a single file beside the pictures or over their folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fna_lightning.data.checking.problems import Kind, Problem, SetError
from fna_lightning.errors import listed

_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.I)
_VAL = re.compile(r"(?<![a-z])val(id|idation)?(?![a-z])", re.I)
_TEST = re.compile(r"(?<![a-z])test(ing)?(?![a-z])", re.I)
_ROBOFLOW = "_annotations.coco.json"
_LOOKED_AT = 50  # pictures


def find_export(root: Path) -> tuple[Path, Path | None] | None:
    """The annotation files of the training and of the validation set below a folder.

    Returns:
        The second is None where there is none; without either where there are no such files.

    Raises:
        DataError: It cannot be told which is of which set.
    """
    files = [*root.glob("*.json"), *root.glob("annotations/*.json"), *root.glob(f"*/{_ROBOFLOW}")]
    names = {file: file.relative_to(root).as_posix() for file in sorted(files)}
    train = [file for file, name in names.items() if _TRAIN.search(name)]
    val = [file for file, name in names.items() if _VAL.search(name)]
    whole = [file for file, name in names.items() if not _TEST.search(name)]
    if len(train) == 1 and len(val) <= 1 and train != val:
        return train[0], val[0] if val else None
    if len(whole) == 1 and not val:
        return whole[0], None
    if not files:
        return None
    what = f"which of {listed(names.values())} is for training, and which for validation?"
    mend = "set data.train_annotations, data.val_annotations (or null), data.train_images and data.val_images"
    raise SetError(Problem(Kind.SET, root, what, mend))


def find_pictures(root: Path, file: Path, names: Sequence[str]) -> Path:
    """The folder that most of some file names are relative to.

    Args:
        root: Of the set.
        file: The annotation file.
        names: The file names in it.

    Returns:
        That of the annotation file where there are none in any.
    """
    split = re.sub(r"^instances_", "", file.stem)
    folders = [file.parent, root, root / "images" / split, root / "images", root / split, file.parent / "images"]
    some = names[:: 1 + len(names) // _LOOKED_AT]
    return max(folders, key=lambda folder: sum((folder / name).is_file() for name in some))
