"""A backbone of two convolutions."""

from torch import nn


class TinyBackbone(nn.Module):
    """One strided convolution (and a norm) per map: the contract of a backbone and nothing else."""

    def __init__(self, widths=(4, 6, 8, 10), strides=(4, 8, 16, 32), names=("2", "3", "5", "7")):
        super().__init__()
        self.out_channels = dict(zip(names, widths, strict=True))
        self.strides = dict(zip(names, strides, strict=True))
        self.maps = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Conv2d(3, width, stride, stride), nn.BatchNorm2d(width))
                for name, width, stride in zip(names, widths, strides, strict=True)
            }
        )

    def forward(self, images):
        return {name: layer(images) for name, layer in self.maps.items()}
