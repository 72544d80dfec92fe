"""What a search says last: the command that trains what it found."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from recipes import EXPERIMENTS, entry_of

from fna_lightning.files import CONF_DIR
from fna_lightning.runs.folder import next_command

# Recipe of the search -> recipe of the training.
PARTNERS = {
    "bccd/fcos_head_search": "bccd/fcos",
    "bccd/fcos_joint_search": "bccd/fcos",
    "fad/fcos_voc_search": "fad/fcos_r50_coco",
    "bccd/search": "bccd/train",
    "bccd/ssdlite_search": "bccd/ssdlite",
    "bccd/yolof_search": "bccd/yolof",
    "camvid/search": "camvid/train",
    "demo/search": "demo/train",
    "demo/segmentation_search": "demo/segmentation",
    "cells/search": "cells/subnet_pretrain",
    "detnas/search": "detnas/subnet_pretrain",
    "detnas/search_retinanet": "detnas/subnet_pretrain",
    "mmrazor/search": "mmrazor/subnet_pretrain",
    "fna/deeplabv3_cityscapes_search": "fna/deeplabv3_cityscapes",
    "fna/retinanet_coco_search": "fna/retinanet_coco",
    "fna/ssdlite_coco_search": "fna/ssdlite_coco",
    "fna/ssdlite_coco_paper_search": "fna/ssdlite_coco",
    "naa/retinanet_coco_search": "naa/retinanet_coco",
    "naa/ssdlite_coco_search": "naa/ssdlite_coco",
    "naa/yolof_coco_search": "naa/yolof_coco",
}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """command(*overrides, conf=folder, name=...): what a search by these says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)

    def run(*overrides, conf=CONF_DIR, name="search"):
        with initialize_config_dir(str(conf), version_base="1.3"):
            config = compose(name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return next_command(config, tmp_path / "outputs" / "search" / "a run")

    return run


# Recipe of a search over a supernet -> that of the next, and whether it is of another set.
SUPERNETS = {
    "cells/supernet_pretrain": ("cells/supernet_finetune", True),
    "cells/supernet_finetune": ("cells/search", False),
    "detnas/supernet_pretrain": ("detnas/supernet_finetune", True),
    "detnas/supernet_finetune": ("detnas/search", False),
    "detnas/supernet_finetune_retinanet": ("detnas/search_retinanet", False),
    "mmrazor/supernet_pretrain": ("mmrazor/supernet_finetune", True),
    "mmrazor/supernet_finetune": ("mmrazor/search", False),
    "mmrazor/supernet_finetune_retinanet": (None, False),
}


def test_all_recipes_of_searches_are_here():
    assert {name for name in EXPERIMENTS if entry_of(name) == "search"} == {*PARTNERS, *SUPERNETS}
    assert {*PARTNERS.values(), *(name for name, _ in SUPERNETS.values() if name)} <= set(EXPERIMENTS)


@pytest.mark.parametrize(("recipe", "partner"), PARTNERS.items())
def test_training_command(command, recipe, partner):
    other_set = " 'data.root=<folder>'" if partner.endswith(("pretrain", "r50_coco")) else ""
    assert command(f"experiment={recipe}") == (
        f"python train.py experiment={partner} 'architecture=outputs/search/a run'{other_set}"
    )


@pytest.mark.parametrize(("recipe", "partner"), SUPERNETS.items())
def test_the_next_search_over_a_supernet(command, recipe, partner):
    following, other_set = partner
    root, strategy = "data.root=/pictures", "strategy=ddp"
    layout = ["space.candidates=[shuffle_3x3]", "architecture.layout=mmrazor"]
    assert command(f"experiment={recipe}", *layout) == (
        f"python search.py experiment={following} 'search.supernet=outputs/search/a run' "
        f"'{layout[0]}' {layout[1]}" + " 'data.root=<folder>'" * other_set
        if following
        else None
    )
    assert command(f"experiment={recipe}", root, strategy) == (
        f"python search.py experiment={following} 'search.supernet=outputs/search/a run' "
        + (f"{strategy} 'data.root=<folder>'" if other_set else f"{root} {strategy}")
        if following
        else None
    )


@pytest.mark.parametrize("name", ["cells", "detnas", "mmrazor"])
def test_a_network_that_goes_on_to_another_set(command, name):
    assert command(f"experiment={name}/subnet_pretrain", name="train") == (
        f"python train.py experiment={name}/subnet_finetune 'architecture=outputs/search/a run' "
        "'seed.weights=outputs/search/a run' 'data.root=<folder>'"
    )
    assert command("experiment=bccd/train", name="train") is None


def test_it_names_the_same_data_and_no_other_settings(command):
    given = (
        "data=coco",
        "data.root=/my cells",
        "++data.pad=4",
        "trainer.max_epochs=1",
        "strategy=ddp",
        "search.share=0.4",
    )
    assert command("experiment=bccd/search", "detector.fpn_channels=8", *given, "seed=none", "logger=wandb") == (
        "python train.py experiment=bccd/train 'architecture=outputs/search/a run' detector.fpn_channels=8 "
        "data=coco 'data.root=/my cells' ++data.pad=4 strategy=ddp seed=none logger=wandb"
    )
    assert command() == "python train.py experiment=demo/train 'architecture=outputs/search/a run'"


def test_where_the_partner_is_not_known(command):
    assert command("~experiment") is None
    assert command("train_with=null") is None


@pytest.mark.parametrize("text", ["train_with: demo/train", "random_seed: 0"])
def test_a_saved_configuration_does_not_say_on_which_data(command, tmp_path, text):
    """Nor did it name a recipe once."""
    (tmp_path / "config.yaml").write_text(f"{text}\n")
    assert command(conf=tmp_path, name="config") is None
