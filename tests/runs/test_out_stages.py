import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from recipes import EXPERIMENTS, entry_of

from fna_lightning.architectures import load_architecture, published_names
from fna_lightning.backbones import build_backbone
from fna_lightning.errors import ConfigError
from fna_lightning.files import CONF_DIR
from fna_lightning.runs.build import map_settings, out_stages


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


# What the detectors read of FNA's networks; of all but the last as before they asked for strides.
READ = {
    "classifier": ("8",),
    "deeplabv3": ("7",),
    "deeplabv3plus": ("2", "7"),
    "fcos": ("3", "5", "7"),
    "retinanet": ("3", "5", "7"),
    "ssdlite": ("6.expand", "8"),
    "faster_rcnn": ("2", "3", "5", "7"),
    "yolof": ("8",),
}
# Of seven stages, as MobileNetV2; DenseNAS-C has eight.
MOBILE = [
    name
    for name in published_names()
    if (architecture := load_architecture(name)).kind == "mobile" and architecture.head_stage == 8
]


@pytest.mark.parametrize("name", MOBILE)
@pytest.mark.parametrize("detector", READ)
def test_strides_are_the_stages_of_before(detector, name):
    node = OmegaConf.load(CONF_DIR / "detector" / f"{detector}.yaml")
    assert out_stages(OmegaConf.create({"detector": node}), load_architecture(name)) == READ[detector]


@pytest.mark.parametrize("recipe", EXPERIMENTS)
def test_recipes_read_the_maps_of_before(recipe):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(entry_of(recipe), [f"experiment={recipe}", "++data.root=x", "++seed.weights=x"])
    detector = config.detector._target_.rsplit(".", 1)[-1].lower()
    (wanted,) = [maps for name, maps in READ.items() if name.replace("_", "") == detector]
    assert all(out_stages(config, load_architecture(name)) == wanted for name in MOBILE)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("detector", ["deeplabv3", "deeplabv3plus"])
def test_the_same_maps_at_any_output_stride(mobilenet, detector, output_stride):
    node = OmegaConf.load(CONF_DIR / "detector" / f"{detector}.yaml")
    node.output_stride = output_stride
    settings = map_settings(OmegaConf.create({"detector": node}), mobilenet)
    assert settings == {"out_stages": READ[detector], "output_stride": output_stride}


def test_names_win_over_strides(mobilenet):
    detector = {"features": [2, 3, 5], "strides": [8, 16, 32]}
    assert out_stages(OmegaConf.create({"detector": detector}), mobilenet) == ("2", "3", "5")


def test_neither_names_nor_strides(mobilenet):
    with pytest.raises(ConfigError, match=r"detector\.strides is not set"):
        out_stages(OmegaConf.create({"detector": {"features": None}}), mobilenet)


def test_a_stride_that_is_not_there(mobilenet):
    config = OmegaConf.create({"detector": {"strides": [8, 16, 64]}})
    with pytest.raises(
        ConfigError, match=r"^detector\.strides=\[8, 16, 64\]: .*'64': it has 2, 4, 8, 16, 32, 2\.expand"
    ):
        out_stages(config, mobilenet)
