"""A trained backbone as a feature extractor, in one file that needs torch alone.

    from backbone import FeatureNetwork                        # this file, which lies beside the weights

    network = FeatureNetwork.load("backbone.safetensors")
    pixels = (images / 255 - network.mean) / network.std       # images: (N, 3, H, W) on [0, 255], RGB
    maps = network(pixels)                                     # a list, shallow maps first
    network.feature_info.channels(), network.feature_info.reduction()

How the network is built stands in the metadata of the weights' file, as JSON under `layers`; the other tensors of
the file are its `state_dict`. It is a module as any other: it can be trained on, moved and exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class FeatureInfo(list[dict[str, Any]]):
    """What is known of every map: `num_chs`, `reduction` (its stride in pixels) and `module`, the map's name."""

    def channels(self) -> list[int]:
        """Of every map."""
        return [each["num_chs"] for each in self]

    def reduction(self) -> list[int]:
        """Pixels of the input per pixel of every map."""
        return [each["reduction"] for each in self]

    def module_name(self) -> list[str]:
        """Of every map."""
        return [each["module"] for each in self]


class FeatureNetwork(nn.Module):
    """(N, 3, H, W) normalised pictures -> the maps of `feature_info` in a list, shallow first.

    Args:
        layers: the steps in series: the `name` of a module, what it is (`layer`), and under which name its result
            is returned (`map`), or what it has expanded (`expanded`).
        feature_info: of every map that is returned.
        mean: of RGB pixels on [0, 1].
        std: likewise the deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: list[dict[str, Any]],
        feature_info: list[dict[str, Any]],
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        self.feature_info = FeatureInfo(feature_info)
        self.steps = [(step["name"], step.get("map"), step.get("expanded")) for step in layers]
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).view(1, -1, 1, 1), persistent=False)
        for step in layers:
            *places, last = step["name"].split(".")
            parent: nn.Module = self
            for place in places:
                if not hasattr(parent, place):
                    parent.add_module(place, nn.Module())
                parent = parent.get_submodule(place)
            parent.add_module(last, build(step["layer"]))

    @classmethod
    def load(cls, path: str | Path) -> FeatureNetwork:
        """The network that a safetensors file describes, with its parameters, in evaluation mode.

        Raises:
            ValueError: the file is not one that was exported so.
        """
        metadata, state = read_safetensors(path)
        if "layers" not in metadata:
            raise ValueError(f"{path}: describes no layers; give a backbone that was exported as safetensors")
        settings = {key: json.loads(metadata[key]) for key in ("layers", "feature_info", "mean", "std")}
        network = cls(**settings)
        # Counters of batches serve training with a cumulative average alone, and are not in the file.
        missing, unexpected = network.load_state_dict(state, strict=False)
        wrong = [*unexpected, *(key for key in missing if not key.endswith("num_batches_tracked"))]
        if wrong:
            raise ValueError(f"{path}: its tensors are not those of its layers: {', '.join(wrong[:4])}")
        return network.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> maps (N, channels, H / reduction, W / reduction)."""
        x, maps = images, []
        for name, result, expanded in self.steps:
            x = self.get_submodule(name)(x)
            if expanded is not None:
                x, inside = x
                maps.append(inside)
            if result is not None:
                maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """Expansion 1x1, depthwise convolution and projection 1x1 (MobileNetV2)."""

    def __init__(
        self, expand: nn.Module, depthwise: nn.Module, project: nn.Module, residual: bool, exposed: bool
    ) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project = expand, depthwise, project
        self.residual, self.exposed = residual, exposed

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The block's map; where exposed, with the map behind the expansion."""
        expanded = self.expand(x)
        y = self.project(self.depthwise(expanded))
        y = x + y if self.residual else y
        return (y, expanded) if self.exposed else y


class ShuffleBlock(nn.Module):
    """Two branches of the channels, joined again (ShuffleNetV2); `shuffle` says where channels are shuffled."""

    def __init__(self, main: nn.Module, side: nn.Module | None, shuffle: str) -> None:
        super().__init__()
        self.main, self.side, self.shuffle = main, side, shuffle

    def forward(self, x: Tensor) -> Tensor:
        """The block's map."""
        kept, given = self._split(x) if self.side is None else (self.side(x), x)
        parts = kept, self.main(given)
        return torch.stack(parts, 2).flatten(1, 2) if self.shuffle == "exit" else torch.cat(parts, 1)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        if self.shuffle == "entry_evenodd":
            return x[:, ::2], x[:, 1::2]
        if self.shuffle == "exit":
            return x.chunk(2, 1)
        a, b, c, d = x.chunk(4, 1)
        return torch.stack((a, c), 2).flatten(1, 2), torch.stack((b, d), 2).flatten(1, 2)


class Residual(nn.Module):
    """Convolutions with norms `conv<k>`, `bn<k>`, beside an identity or `downsample` (ResNet)."""

    def __init__(self, parts: Mapping[str, nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.downsample = downsample
        self.depth = len(parts) // 2

    def forward(self, x: Tensor) -> Tensor:
        """The block's map."""
        y = x
        for number in range(1, self.depth + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            y = y.relu() if number < self.depth else y
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


def build(layer: dict[str, Any] | None) -> Any:
    """The module that a description stands for: its `kind`, its settings, and layers within it."""
    if layer is None:
        return None
    settings = {key: value for key, value in layer.items() if key not in ("kind", "inside")}
    inside = {name: build(each) for name, each in layer.get("inside", {}).items()}
    kind = layer["kind"]
    if kind == "sequence":
        sequence = nn.Sequential()
        for name, module in inside.items():
            sequence.add_module(name, module)
        return sequence
    if kind == "residual":
        return Residual(inside, downsample=inside.pop("downsample"))
    return _KINDS[kind](**inside, **settings)


def read_safetensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file in the format of https://github.com/huggingface/safetensors."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = header.pop("__metadata__", {})
    state = {}
    for name, entry in header.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        numbers = torch.frombuffer(bytearray(content[begin:end]), dtype=_DTYPES[entry["dtype"]])
        state[name] = numbers.view(entry["shape"])
    return metadata, state


_KINDS: dict[str, Any] = {
    "conv": nn.Conv2d,
    "norm": nn.BatchNorm2d,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "identity": nn.Identity,
    "pool": nn.MaxPool2d,
    "inverted_residual": InvertedResidual,
    "shuffle": ShuffleBlock,
}
