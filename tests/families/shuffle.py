"""DetNAS's family: drawn architectures, and a network that is written from the formulas alone."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from fna_lightning.architectures import ShuffleArchitecture, ShuffleStage

OPERATIONS = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "xception_3x3")


@pytest.fixture(scope="session")
def shuffle_architectures():
    """Strategy for `ShuffleArchitecture`s that can be built."""

    @st.composite
    def architectures(draw):
        layout = draw(st.sampled_from(["detnas", "detnas_supernet", "mmrazor"]))
        stem = width = draw(st.integers(1, 9))
        stages = []
        for _ in range(draw(st.integers(1, 4))):
            least = 4 if layout == "mmrazor" else width + 1
            width = -(-(least + draw(st.integers(0, 8))) // 4) * 4
            layers = draw(st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=4))
            stages.append(ShuffleStage(width, tuple(layers)))
        return ShuffleArchitecture(layout, stem, tuple(stages), draw(st.integers(1, 40)))

    return architectures()


@pytest.fixture(scope="session")
def shuffle_small():
    """A network of three stages and few channels, with all four operations."""
    return ShuffleArchitecture.from_text("shuffle detnas: 4 | 8: 03 | 12: 21 | 16: 30 | 20")


@pytest.fixture(scope="session")
def shuffle_referee():
    """referee(state, layout, operation, x, stride, dilation) -> what a block of that state computes, in eval mode.

    Written from the formulas of the specification (1.2), without modules.
    """

    def unit(state, x, name, relu, **conv):
        y = F.conv2d(x, state[f"{name}.conv.weight"], **conv)
        mean, var = state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"]
        y = (y - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
        y = y * state[f"{name}.norm.weight"][:, None, None] + state[f"{name}.norm.bias"][:, None, None]
        return torch.clamp(y, min=0) if relu else y

    def depthwise(state, x, name, stride, dilation):
        kernel = state[f"{name}.conv.weight"].shape[-1]
        settings = {"stride": stride, "padding": dilation * (kernel // 2), "dilation": dilation}
        return unit(state, x, name, False, groups=x.shape[1], **settings)

    def main(state, operation, x, stride, dilation):
        if operation == "xception_3x3":
            for pair in range(3):
                x = depthwise(state, x, f"main.{2 * pair}", stride if pair == 0 else 1, dilation)
                x = unit(state, x, f"main.{2 * pair + 1}", True)
            return x
        x = unit(state, x, "main.0", True)
        return unit(state, depthwise(state, x, "main.1", stride, dilation), "main.2", True)

    def shuffled(x):
        half = x.shape[1] // 2
        return x[:, [place for pair in range(half) for place in (pair, half + pair)]]

    def referee(state, layout, operation, x, stride=1, dilation=1):
        half = x.shape[1] // 2
        if "side.0.conv.weight" in state:
            kept = unit(state, depthwise(state, x, "side.0", stride, dilation), "side.1", True)
            given = x
        elif layout == "detnas":
            even = list(range(0, x.shape[1], 2))
            kept, given = x[:, even], x[:, [place + 1 for place in even]]
        else:
            y = shuffled(x) if layout == "detnas_supernet" else x
            kept, given = y[:, :half], y[:, half:]
        joined = torch.cat([kept, main(state, operation, given, stride, dilation)], dim=1)
        return shuffled(joined) if layout == "mmrazor" else joined

    return referee
