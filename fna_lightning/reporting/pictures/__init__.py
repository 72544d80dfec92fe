"""Pictures of architectures, runs and results.

Figures are made object by object: nothing here touches pyplot, its global state or a display.
"""

from fna_lightning.reporting.pictures.alphas import draw_alphas
from fna_lightning.reporting.pictures.architecture import draw_architecture, has_drawing
from fna_lightning.reporting.pictures.candidates import draw_candidates
from fna_lightning.reporting.pictures.curves import draw_curves
from fna_lightning.reporting.pictures.detections import draw_detections
from fna_lightning.reporting.pictures.genotype import draw_genotype
from fna_lightning.reporting.pictures.mobile import draw_mobile
from fna_lightning.reporting.pictures.overlays import boxes_on, labels_on
from fna_lightning.reporting.pictures.pareto import draw_pareto, pareto_front
from fna_lightning.reporting.pictures.segmentations import draw_class_scores, draw_segmentations
from fna_lightning.reporting.pictures.shuffle import draw_shuffle
from fna_lightning.reporting.pictures.style import save_picture, to_png

__all__ = [
    "boxes_on",
    "draw_alphas",
    "draw_architecture",
    "draw_candidates",
    "draw_class_scores",
    "draw_curves",
    "draw_detections",
    "draw_genotype",
    "draw_mobile",
    "draw_pareto",
    "draw_segmentations",
    "draw_shuffle",
    "has_drawing",
    "labels_on",
    "pareto_front",
    "save_picture",
    "to_png",
]
