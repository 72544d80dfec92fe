"""Parameters that an optimiser treats in their own way: norms, biases, and what is not the backbone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from fna_lightning.blocks import Network
from fna_lightning.modules.base import OptimizerFactory


@dataclass(frozen=True)
class ParameterGroups:
    """The groups of one optimiser; by default there is one.

    Attributes:
        norm_decay: whether the scales and shifts of batch norms decay as all parameters do.
        head_lr_factor: learning rate of what is not the backbone, and starts untrained, over the backbone's.
        bias_lr_factor: learning rate of biases, shifts of norms among them, over that of weights beside them
            (FAD, DetNAS: 2).
        bias_decay: whether biases decay as all parameters do (FAD, DetNAS: no).
    """

    norm_decay: bool = True
    head_lr_factor: float = 1.0
    bias_lr_factor: float = 1.0
    bias_decay: bool = True

    def optimizer(
        self, factory: OptimizerFactory, network: Network, parameters: Iterable[nn.Parameter]
    ) -> Optimizer:
        """The optimiser of the given ones of `network`'s parameters; its first group has the factory's rate."""
        if self == ParameterGroups():
            return factory(parameters)
        backbone = _parameters([network.backbone])
        biases = {id(parameter) for name, parameter in network.named_parameters() if name.endswith("bias")}
        faster = biases if self.bias_lr_factor != 1 else set()
        fixed = set() if self.bias_decay else biases
        if not self.norm_decay:
            fixed = fixed | _parameters(module for module in network.modules() if isinstance(module, _BatchNorm))
        groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
        for parameter in parameters:
            key = (id(parameter) not in backbone, id(parameter) in faster, id(parameter) in fixed)
            groups.setdefault(key, []).append(parameter)
        keys = sorted(groups)
        optimizer = factory({"params": groups[key]} for key in keys)
        for group, (of_head, is_faster, without_decay) in zip(optimizer.param_groups, keys, strict=True):
            group["lr"] *= self.head_lr_factor if of_head else 1
            group["lr"] *= self.bias_lr_factor if is_faster else 1
            group["weight_decay"] *= 0 if without_decay else 1
        return optimizer


def _parameters(modules: Iterable[nn.Module]) -> set[int]:
    return {id(parameter) for module in modules for parameter in module.parameters()}
