"""The blocks of ShuffleNetV2 among which DetNAS chooses, and the stages made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fna_lightning.architectures import Layout, ShuffleArchitecture
from fna_lightning.architectures.shuffle_encodings import XCEPTION, kernel_of
from fna_lightning.blocks.map_names import wanted_maps
from fna_lightning.blocks.mobile import ConvNorm, Norm
from fna_lightning.errors import ConfigError

_ConvNorm = partial(ConvNorm, rectifier=nn.ReLU)


class ShuffleBlock(nn.Module):
    """Two branches of the channels, joined again (spec DetNAS 1.2).

    A stage's first block gives all of its input to both, `side` and `main`. Every other hands one half of the
    channels on as it is, and has no `side`.
    """

    def __init__(
        self,
        operation: str,
        in_channels: int,
        out_channels: int,
        layout: Layout,
        *,
        first: bool,
        stride: int = 1,
        dilation: int = 1,
        norm: Norm = Norm(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        hidden, kernel = out_channels // 2, kernel_of(operation)
        kept = in_channels if first and layout.split == "unbalanced" else out_channels // 2
        given = in_channels if first else in_channels - kept
        build = _xception_layers if operation == XCEPTION else _shuffle_layers
        self.main = build(given, hidden, out_channels - kept, kernel, stride, dilation, norm)
        self.side = _separable(in_channels, kept, kernel, stride, dilation, norm) if first else None
        self.layout = layout

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""
        if self.side is None:
            kept, given = self._split(x)
        else:
            kept, given = self.side(x), x
        y = self.main(given)
        return interleave(kept, y) if self.layout.shuffle == "exit" else torch.cat((kept, y), 1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.layout.shuffle == "entry_evenodd":
            return x[:, ::2], x[:, 1::2]
        if self.layout.shuffle == "exit":
            first, second = x.chunk(2, 1)
            return first, second
        a, b, c, d = x.chunk(4, 1)
        return interleave(a, c), interleave(b, d)


def interleave(a: Tensor, b: Tensor) -> Tensor:
    """(N, C, H, W) twice -> (N, 2C, H, W): a's channels at even places, b's at odd ones, in one copy.

    This is the shuffle in two groups of both after the other. Memory stays in the format in which it is.
    """
    if a.stride(1) == 1:  # channels last; halves of a map are not contiguous in any format
        rows = (a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1))
        return torch.stack(rows, 4).flatten(3).permute(0, 3, 1, 2)
    return torch.stack((a, b), 2).flatten(1, 2)


def _shuffle_layers(
    in_channels: int, hidden: int, out_channels: int, kernel: int, stride: int, dilation: int, norm: Norm
) -> nn.Sequential:
    """1x1, depthwise k x k, 1x1."""
    return nn.Sequential(
        _ConvNorm(in_channels, hidden, norm=norm),
        *_separable(hidden, out_channels, kernel, stride, dilation, norm),
    )


def _xception_layers(
    in_channels: int, hidden: int, out_channels: int, kernel: int, stride: int, dilation: int, norm: Norm
) -> nn.Sequential:
    """Depthwise 3x3 and 1x1, three times."""
    return nn.Sequential(
        *_separable(in_channels, hidden, kernel, stride, dilation, norm),
        *_separable(hidden, hidden, kernel, 1, dilation, norm),
        *_separable(hidden, out_channels, kernel, 1, dilation, norm),
    )


def _separable(
    in_channels: int, out_channels: int, kernel: int, stride: int, dilation: int, norm: Norm
) -> nn.Sequential:
    """Depthwise k x k without activation, 1x1 with one."""
    return nn.Sequential(
        _ConvNorm(
            in_channels, in_channels, kernel, stride=stride, dilation=dilation, groups=in_channels,
            activation=False, norm=norm,
        ),
        _ConvNorm(in_channels, out_channels, norm=norm),
    )  # fmt: skip


class BlockPlan(NamedTuple):
    """Where a block stands, without its operation."""

    stage: int
    """Number of its stage."""
    place: int
    """The block's among its blocks."""
    in_width: int
    width: int
    stride: int
    dilation: int
    layout: Layout

    def build(self, operation: str, norm: Norm) -> ShuffleBlock:
        """The block of this operation here."""
        return ShuffleBlock(
            operation,
            self.in_width,
            self.width,
            self.layout,
            first=self.place == 0,
            stride=self.stride,
            dilation=self.dilation,
            norm=norm,
        )


def build_shuffle_stages(
    architecture: ShuffleArchitecture,
    out_stages: Sequence[int | str],
    output_stride: int | None,
    norm: Norm,
    build_block: Callable[[BlockPlan], nn.Module],
) -> tuple[list[nn.Module], dict[str, int], dict[str, int]]:
    """The arguments of `StagedNetwork` for a network whose blocks `build_block` makes.

    Args:
        architecture: widths, numbers of blocks and layout.
        out_stages: numbers of the stages whose maps are wanted; the network ends with the last of them.
        output_stride: the largest stride wanted.
        norm: of stem and tail.
        build_block: makes the block of a plan.

    Raises:
        ConfigError: where `out_stages` names a map that the network does not have.
    """
    wanted = wanted_maps(out_stages, architecture.tail_stage)
    for name in wanted:
        if not name.whole:
            raise ConfigError(
                f"there is no map {name}: blocks of kind {architecture.kind} do not expand their input"
            )
    layout = architecture.strides_and_dilations(output_stride)
    modules: list[nn.Module] = []
    in_width = 3
    for number in range(wanted[-1].stage + 1):
        (stride, dilation), width = layout[number], architecture.widths[number]
        if number == 0:
            modules.append(_ConvNorm(in_width, width, 3, stride=stride, norm=norm, bias=architecture.form.bias))
        elif number == architecture.tail_stage:
            modules.append(_ConvNorm(in_width, width, norm=norm, bias=architecture.form.bias))
        else:
            blocks = []
            for index in range(len(architecture.stages[number - 1].layers)):
                place = (in_width, width, stride) if index == 0 else (width, width, 1)
                blocks.append(build_block(BlockPlan(number, index, *place, dilation, architecture.form)))
            modules.append(nn.Sequential(*blocks))
        in_width = width
    levels = {level.name: level for level in architecture.levels(output_stride)}
    names = list(map(str, wanted))
    return modules, {n: levels[n].channels for n in names}, {n: levels[n].stride for n in names}


def initialise_shuffle(stages: Iterable[nn.Module]) -> None:
    """Draw the parameters of a network as both publishers do (spec DetNAS 1.3).

    The stem's weights are N(0, 0.01), those of other convolutions N(0, 1 / input channels of a group), biases 0;
    batch norms begin at scale 1 and offset 1e-4.
    """
    for number, stage in enumerate(stages):
        for module in stage.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.01 if number == 0 else 1 / module.weight.shape[1])
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d) and module.affine:
                nn.init.ones_(module.weight)
                nn.init.constant_(module.bias, 1e-4)
