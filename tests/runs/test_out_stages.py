import pytest
from omegaconf import OmegaConf

from fna_lightning.backbones import build_backbone
from fna_lightning.errors import ConfigError
from fna_lightning.runs.build import out_stages


@pytest.mark.parametrize(
    ("features", "names"),
    [
        ([3, 5, 7], ("3", "5", "7")),
        ([-1], ("8",)),
        (["6.expand", 8], ("6.expand", "8")),
        (["-3.expand", "-1"], ("6.expand", "8")),
    ],
)
def test_maps_that_the_detector_reads(mobilenet, features, names):
    config = OmegaConf.create({"detector": {"features": features}})
    assert out_stages(config, mobilenet) == names
    assert tuple(build_backbone(mobilenet, names).out_channels) == names


@pytest.mark.parametrize("feature", ["6.5", "expand", "6.project"])
def test_what_names_no_map(mobilenet, feature):
    with pytest.raises(ConfigError, match=rf"{feature}.*give the number of a stage"):
        out_stages(OmegaConf.create({"detector": {"features": [feature]}}), mobilenet)
