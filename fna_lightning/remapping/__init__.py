"""Parameters of one network -> parameters of another: depth, width, kernel."""

import fna_lightning.remapping.mobile
import fna_lightning.remapping.resnet
import fna_lightning.remapping.shuffle
import fna_lightning.remapping.towers  # noqa: F401 - registers its rules, as those above
from fna_lightning.remapping.beside import differences, seed_network, with_moments
from fna_lightning.remapping.channels import ChannelMap
from fna_lightning.remapping.placing import place_seed, place_supernet
from fna_lightning.remapping.plan import Move, Plan, chosen_layers, plan_from_seed
from fna_lightning.remapping.remap import remap
from fna_lightning.remapping.report import Entry, RemapReport, report_of_supernet
from fna_lightning.remapping.strategies import STRATEGIES, Growth, Strategy, strategy_named

__all__ = [
    "STRATEGIES",
    "ChannelMap",
    "Entry",
    "Growth",
    "Move",
    "Plan",
    "RemapReport",
    "Strategy",
    "chosen_layers",
    "differences",
    "place_seed",
    "place_supernet",
    "plan_from_seed",
    "remap",
    "report_of_supernet",
    "seed_network",
    "strategy_named",
    "with_moments",
]
