"""Layers of the largest widths, of which a path computes the first channels (nested prefixes, spec NAA 8.2).

A path runs on slices of the parameters: it costs what the derived network will. In the mixture all channels run,
and each counts by how likely it is in use, once a stream: with one width of weight 1 the two are the same. The
published code searches no widths; this design is our own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from fna_lightning.blocks import ConvNorm, InvertedResidual
from fna_lightning.choices import ValueChoice
from fna_lightning.errors import ConfigError


class Stream(NamedTuple):
    """A stream whose channels follow a choice."""

    width: ValueChoice
    times: int = 1
    """Channels for each of the choice's number, such as the expansion of a hidden stream."""

    @property
    def channels(self) -> int:
        """Of the path; all of them in the mixture."""
        return self.times * (self.width.value or self.width.largest)

    def weights(self) -> Tensor:
        """(channels,) of the mixture: how likely each channel is in use."""
        return self.width.prefix_weights().repeat_interleave(self.times)


class SlicedConv2d(nn.Conv2d):
    """A convolution over as many channels as it is given; what it writes follows `writes`, or is all it has.

    A depthwise one writes what it reads.
    """

    reads: ValueChoice | None
    width: ValueChoice | None
    times: int

    @staticmethod
    def follow(layer: nn.Conv2d, reads: Stream | None, writes: Stream | None = None) -> None:
        """Turn `layer` into one, in place; its parameters and their names stay.

        Raises:
            ConfigError: for a convolution in groups, which slices would not leave as they are.
        """
        if layer.groups not in (1, layer.in_channels):
            raise ConfigError(
                f"space.widths: a convolution in {layer.groups} groups of {layer.in_channels} channels cannot "
                "follow a width"
            )
        layer.__class__ = SlicedConv2d
        assert isinstance(layer, SlicedConv2d)
        layer.reads = None if reads is None else reads.width
        layer.width, layer.times = (None, 1) if writes is None else writes

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(N, C_in, H, W) -> (N, C_out, H/stride, W/stride)."""
        inputs = input.shape[1]
        if self.groups > 1:
            outputs, weight = inputs, self.weight[:inputs]
        else:
            outputs = self.out_channels if self.width is None else Stream(self.width, self.times).channels
            weight = self.weight[:outputs, :inputs]
        bias = None if self.bias is None else self.bias[:outputs]
        groups = inputs if self.groups > 1 else 1
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, groups)


class SlicedLinear(nn.Linear):
    """A linear layer over as many features as it is given."""

    reads: ValueChoice | None

    @staticmethod
    def follow(layer: nn.Linear, reads: Stream | None) -> None:
        """Turn `layer` into one, in place."""
        layer.__class__ = SlicedLinear
        assert isinstance(layer, SlicedLinear)
        layer.reads = None if reads is None else reads.width

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(..., C_in) -> (..., C_out)."""
        return F.linear(input, self.weight[:, : input.shape[-1]], self.bias)


class SlicedBatchNorm(nn.BatchNorm2d):
    """A batch norm over as many channels as it is given, whose scales, offsets and statistics are the first.

    Where it `weighs`, its output counts by how likely channels are in use when the mixture runs.
    """

    width: ValueChoice | None
    times: int
    weighs: bool

    @staticmethod
    def follow(layer: nn.BatchNorm2d, stream: Stream | None, *, weighs: bool = True) -> None:
        """Turn `layer` into one, in place."""
        layer.__class__ = SlicedBatchNorm
        assert isinstance(layer, SlicedBatchNorm)
        layer.width, layer.times = (None, 1) if stream is None else stream
        layer.weighs = weighs

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(N, C, H, W) -> the same."""
        whole = input.shape[1] == self.num_features
        y = super().forward(input) if whole else self._of_first(input)
        if self.weighs and self.width is not None and self.width.active is None:
            y = y * Stream(self.width, self.times).weights()[:, None, None].to(y.dtype)
        return y

    def _of_first(self, x: Tensor) -> Tensor:
        """As torch's batch norm does, with the first entries of everything."""
        by_batch = self.training or self.running_mean is None
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        kept = not self.training or self.track_running_stats
        mean, variance = (
            None if value is None or not kept else value[: x.shape[1]]
            for value in (self.running_mean, self.running_var)
        )
        weight, bias = (None if value is None else value[: x.shape[1]] for value in (self.weight, self.bias))
        return F.batch_norm(x, mean, variance, weight, bias, by_batch, factor, self.eps)


def follow_in_block(block: InvertedResidual, reads: Stream | None, writes: Stream | None) -> None:
    """Let a block's layers follow the streams that it reads and writes, in place; None for one of fixed width."""
    hidden = reads
    if isinstance(block.expand, ConvNorm) and reads is not None:
        hidden = Stream(reads.width, block.expand.conv.out_channels // reads.width.largest)
        # The depthwise convolution's norm would undo a weighting here: only what is given out has one.
        follow_in_layer(block.expand, reads, hidden, weighs=block.exposed)
    follow_in_layer(block.depthwise, hidden, hidden)
    follow_in_layer(block.project, hidden, writes)


def follow_in_layer(layer: ConvNorm, reads: Stream | None, writes: Stream | None, *, weighs: bool = True) -> None:
    """Let a convolution and its norm follow the streams that they read and write, in place."""
    if reads is not None or writes is not None:
        SlicedConv2d.follow(layer.conv, reads, writes)
    if writes is not None:
        SlicedBatchNorm.follow(layer.norm, writes, weighs=weighs)
