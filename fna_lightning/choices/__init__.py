"""Decisions of a search space, wherever they stand in a network, and a view over all of them."""

from fna_lightning.choices.choice import Choice, LayerChoice, ValueChoice, weighted_sum
from fna_lightning.choices.decisions import Decision, Decisions, Joint
from fna_lightning.choices.supernet import Supernet
from fna_lightning.choices.view import Choices, Path

__all__ = [
    "Choice",
    "Choices",
    "Decision",
    "Decisions",
    "Joint",
    "LayerChoice",
    "Path",
    "Supernet",
    "ValueChoice",
    "weighted_sum",
]
