"""Convolution with batch norm, and the inverted residual block of MobileNetV2."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fna_lightning.architectures import Operation


@dataclass(frozen=True)
class Norm:
    """Settings of all batch norms of a network."""

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True
    track: bool = True
    """Keep running statistics; without them the batch's own are used always."""

    def build(self, channels: int) -> nn.BatchNorm2d:
        """A batch norm over `channels`."""
        return nn.BatchNorm2d(channels, self.eps, self.momentum, self.affine, self.track)


SEARCHED_NORM = Norm(affine=False, track=False)
"""Searchable layers have neither scale nor running statistics (spec FNA 2.5)."""


class ConvNorm(nn.Module):
    """Convolution, batch norm and, if asked for, an activation; padded to keep H and W at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        activation: bool = True,
        norm: Norm = Norm(),
        bias: bool = False,
        rectifier: type[nn.ReLU] | type[nn.ReLU6] = nn.ReLU6,
    ) -> None:
        super().__init__()
        padding = (kernel - 1) * dilation // 2
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding, dilation, groups=groups, bias=bias
        )
        self.norm = norm.build(out_channels)
        self.activation = rectifier(inplace=True) if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""
        return self.activation(self.norm(self.conv(x)))


class InvertedResidual(nn.Module):
    """Expansion 1x1, depthwise k x k, projection 1x1, and a residual if asked for (spec FNA 1.2).

    A residual wants stride 1 and as many channels out as in. Expansion 1 leaves the first convolution out. An
    `exposed` block also returns the map behind the expansion, which is what SSDLite reads of MobileNetV2 (spec
    FNA 2.2).
    """

    def __init__(
        self,
        operation: Operation,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: Norm = Norm(),
        residual: bool = False,
        exposed: bool = False,
    ) -> None:
        super().__init__()
        hidden = operation.expansion * in_channels
        self.expand = ConvNorm(in_channels, hidden, norm=norm) if operation.expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(
            hidden, hidden, operation.kernel, stride=stride, dilation=dilation, groups=hidden, norm=norm
        )
        self.project = ConvNorm(hidden, out_channels, activation=False, norm=norm)
        self.residual = residual
        self.exposed = exposed

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, C_in, H, W) -> (N, C_out, H/stride, W/stride); where exposed, with the (N, hidden, H, W) map."""
        expanded = self.expand(x)
        y = self.project(self.depthwise(expanded))
        y = x + y if self.residual else y
        return (y, expanded) if self.exposed else y


def initialise(network: nn.Module) -> None:
    """Kaiming-normal convolutions over the fan out, batch norms at scale 1 and offset 0 (spec FNA 5.2)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
