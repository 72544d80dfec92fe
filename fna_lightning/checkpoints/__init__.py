"""Reading weights, native and foreign, safely.

How files of a kind of network are read is a file that registers a `SeedReader`; importing it here makes seeds of
that kind readable.
"""

import fna_lightning.checkpoints.resnet  # noqa: F401 - registers its reader
from fna_lightning.checkpoints.dialects import PUBLISHED, READERS, Dialect, SeedReader
from fna_lightning.checkpoints.mobile import infer_architecture
from fna_lightning.checkpoints.reading import (
    Weights,
    network_tensors_of,
    read_file,
    require_finite,
    weights_of,
)
from fna_lightning.checkpoints.seed import Moments, Seed, checkpoint_of, load_seed
from fna_lightning.checkpoints.shuffle import infer_shuffle

__all__ = [
    "PUBLISHED",
    "READERS",
    "Dialect",
    "Moments",
    "Seed",
    "SeedReader",
    "Weights",
    "checkpoint_of",
    "infer_architecture",
    "infer_shuffle",
    "load_seed",
    "network_tensors_of",
    "read_file",
    "require_finite",
    "weights_of",
]
