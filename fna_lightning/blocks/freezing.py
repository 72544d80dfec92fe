"""Parts of a backbone that stay as they are while the rest is trained."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from fna_lightning.blocks.network import Backbone
from fna_lightning.errors import ConfigError


def freeze(backbone: Backbone, stages: int = 0, norms: bool = False) -> None:
    """Fix the first stages of a backbone, their norms included, and if wanted all of its norms; in place.

    A norm that is fixed becomes torchvision's `FrozenBatchNorm2d`, whose numbers are constants under the same
    names: no mode, calibration or synchronisation moves them, no optimiser knows of them, and they do not count as
    parameters, as in the published totals of such recipes (spec FAD). Fixed stages have parameters without
    gradient. Norms without running statistics, as FNA's searched layers have, cannot be fixed and stay.

    Args:
        backbone: before parameters are carried into it or after.
        stages: how many, the stem being the first.
        norms: of all stages.

    Raises:
        ConfigError: it has fewer stages.
    """
    every = backbone.stage_modules()
    if stages > len(every):
        raise ConfigError(
            f"parameters.frozen_stages={stages}: the backbone has {len(every)} stages that can be fixed"
        )
    fixed = nn.ModuleList([module for stage in every[:stages] for module in stage])
    for parameter in fixed.parameters():
        parameter.requires_grad_(False)
    inside = set(fixed.modules())
    for name, module in list(backbone.named_modules()):
        if isinstance(module, _BatchNorm) and module.track_running_stats and (norms or module in inside):
            place, _, own = name.rpartition(".")
            setattr(backbone.get_submodule(place), own, frozen_norm(module))


@torch.no_grad()
def frozen_norm(norm: _BatchNorm) -> FrozenBatchNorm2d:
    """What `norm` computes when it is evaluated, as constants."""
    frozen = FrozenBatchNorm2d(norm.num_features, norm.eps).to(norm.running_mean)
    frozen.load_state_dict(norm.state_dict(), strict=norm.affine)
    return frozen
