"""Trained networks as files that other programs run.

`graphs.py` says what an exported network computes; a file for each format writes and runs it; `checking.py` holds
what comes out against the network in torch.
"""

from fna_lightning.deployment.export.checking import TOLERANCE, Comparison
from fna_lightning.deployment.export.exporting import ENDINGS, Exported, MismatchError, Request, export

__all__ = ["ENDINGS", "TOLERANCE", "Comparison", "Exported", "MismatchError", "Request", "export"]
