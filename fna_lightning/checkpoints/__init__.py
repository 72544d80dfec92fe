"""Reading weights, native and foreign, safely."""

from fna_lightning.checkpoints.reading import read_file, tensors_of
from fna_lightning.checkpoints.seed import PUBLISHED, Seed, checkpoint_of, infer_architecture, load_seed

__all__ = ["PUBLISHED", "Seed", "checkpoint_of", "infer_architecture", "load_seed", "read_file", "tensors_of"]
