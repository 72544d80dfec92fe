"""The feature pyramid between backbone and head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock


class P6P7(ExtraFPNBlock):
    """Two more levels, each a 3x3 convolution of stride 2 on the one before.

    Args:
        in_channels: of the map that P6 is made of.
        out_channels: of P6 and P7.
        from_pyramid: make P6 of the last pyramid level (DetNAS, FAD), not of the backbone's last map (FNA).
        relu: before P7 (DetNAS, FAD; also torchvision's own block); FNA has none (spec FNA 6.1).
        norm: batch norm in place of the convolutions' biases.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        from_pyramid: bool = False,
        relu: bool = False,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.p6 = _halving(in_channels, out_channels, norm)
        self.p7 = _halving(out_channels, out_channels, norm)
        self.from_pyramid = from_pyramid
        self.relu = relu

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Append P6 and P7 to the pyramid `results`, made of the backbone's maps `x`."""
        p6 = self.p6(results[-1] if self.from_pyramid else x[-1])
        p7 = self.p7(p6.relu() if self.relu else p6)
        return [*results, p6, p7], [*names, "p6", "p7"]


def build_fpn(
    in_channels: Sequence[int],
    out_channels: int = 256,
    p6_from_pyramid: bool = False,
    p7_relu: bool = False,
    norm: bool = False,
    init: Callable[[Tensor], Any] = nn.init.xavier_uniform_,
) -> FeaturePyramidNetwork:
    """RetinaNet's pyramid in FNA's form (spec FNA 6.1): five levels from three maps.

    1x1 laterals with bias, nearest-neighbour top-down additions, 3x3 outputs, P6 and P7; zero biases.

    Args:
        in_channels: channels of the backbone's maps, shallow first.
        out_channels: of every level.
        p6_from_pyramid: see `P6P7`.
        p7_relu: see `P6P7`.
        norm: batch norms behind laterals, outputs, P6 and P7, in place of biases.
        init: draws the weights, in place; Xavier-uniform, or Kaiming-uniform with a = 1 (FAD).

    Returns:
        A module from the dict of the backbone's maps to the dict of levels, which keeps their names and adds
        "p6" and "p7".
    """
    source = out_channels if p6_from_pyramid else in_channels[-1]
    extra = P6P7(source, out_channels, p6_from_pyramid, p7_relu, norm)
    fpn = FeaturePyramidNetwork(list(in_channels), out_channels, extra, nn.BatchNorm2d if norm else None)
    for module in fpn.modules():
        if isinstance(module, nn.Conv2d):
            init(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return fpn


def _halving(in_channels: int, out_channels: int, norm: bool) -> nn.Module:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=not norm)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels)) if norm else convolution
