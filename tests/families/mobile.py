"""MobileNetV2's family: architectures, drawn ones among them, torchvision's network, and FNA's search spaces."""

import pytest
from hypothesis import strategies as st
from torchvision.models import mobilenet_v2

from fna_lightning.architectures import MobileArchitecture, Operation, Stage, parse_architecture
from fna_lightning.supernets import MobileSpace


@pytest.fixture(scope="session")
def torchvision_net(randomise):
    """torchvision's MobileNetV2 with random weights and statistics, in eval mode; not to be changed."""
    return randomise(mobilenet_v2()).eval()


@pytest.fixture(scope="session")
def mobile_architectures():
    """Strategy for `MobileArchitecture`s that can be built."""

    @st.composite
    def architectures(draw, stages=None):
        operations = st.builds(Operation, st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 2, 3, 6]))
        widths = st.integers(1, 12)
        stem, result = draw(widths), []
        for _ in range(stages or draw(st.integers(1, 4))):
            layers = (draw(operations), *draw(st.lists(st.none() | operations, max_size=3)))
            width, stride = draw(widths), draw(st.sampled_from([1, 2]))
            before = result[-1].width if result else stem
            result.append(Stage(width, stride, layers, stride == 2 or width != before or draw(st.booleans())))
        return MobileArchitecture(stem, tuple(result), draw(st.sampled_from([1280, 8, 1])))

    return architectures


@pytest.fixture(scope="session")
def mobilenet():
    """MobileNetV2 as FNA writes it."""
    return parse_architecture(
        "[[32, 16], ['k3_e1'], 1]|"
        "[[16, 24], ['k3_e6', 'k3_e6'], 2]|"
        "[[24, 32], ['k3_e6', 'k3_e6', 'k3_e6'], 2]|"
        "[[32, 64], ['k3_e6', 'k3_e6', 'k3_e6', 'k3_e6'], 2]|"
        "[[64, 96], ['k3_e6', 'k3_e6', 'k3_e6'], 1]|"
        "[[96, 160], ['k3_e6', 'k3_e6', 'k3_e6'], 2]|"
        "[[160, 320], ['k3_e6'], 1]"
    )


@pytest.fixture(scope="session")
def small():
    """A network of three stages and few channels."""
    return parse_architecture(
        "[[8, 6], ['k3_e1'], 1]|[[6, 8], ['k3_e3', 'k3_e3'], 2]|[[8, 10], ['k3_e3', 'k3_e3', 'k3_e3'], 2]"
    )


@pytest.fixture(scope="session")
def small_space(small):
    """Five searched layers over `small`: 3, 4, 4 and 3, 4 candidates."""
    return MobileSpace(small, {2: 3, 3: 2}, ("k3_e2", "k3_e3", "k5_e3"))


@pytest.fixture(scope="session")
def retinanet_space(mobilenet):
    """The search space of FNA for RetinaNet."""
    return MobileSpace(mobilenet, {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1})


@pytest.fixture(scope="session")
def ssdlite_space(mobilenet):
    """The search space of FNA for SSDLite, whose stage 6 must begin with expansion 6."""
    return MobileSpace(
        mobilenet,
        {2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1},
        first_candidates={6: ("k3_e6", "k5_e6", "k7_e6")},
    )
