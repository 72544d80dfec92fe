"""Every search recipe's costs and what is derived from fixed probabilities under a limit; remapped tensors."""

import hashlib

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from recipes import EXPERIMENTS
from torch import nn

from fna_lightning.architectures import architecture_from_dict, load_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.checkpoints import Seed
from fna_lightning.choices import Choices
from fna_lightning.costs import tabulate
from fna_lightning.files import CONF_DIR
from fna_lightning.remapping import STRATEGIES, remap
from fna_lightning.supernets import build_supernet

# Of backbones alone; supernets are of the same spaces.
SEARCHES = [name for name in EXPERIMENTS if name.endswith("search") and "fcos" not in name]
SIZE = (64, 96)


def searched(recipe):
    """(supernet, its base) of a recipe's space, up to the last stage; FNA's on MobileNetV2."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("search", [f"experiment={recipe}"])
    base = architecture_from_dict(OmegaConf.to_container(config.architecture))
    base = load_architecture("mobilenet_v2") if base.kind == "mobile" else base
    space = instantiate(config.space)(base=base)
    last = (len(base.stages),)
    return build_supernet(space, last, output_stride=config.detector.get("output_stride")), base


@torch.no_grad()
def whole_numbers(network):
    """Fill all tensors with small whole numbers, which every processor adds up alike."""
    for name, tensor in network.state_dict().items():
        generator = np.random.default_rng(list(name.encode()))
        tensor.copy_(torch.from_numpy(generator.integers(-99, 100, tuple(tensor.shape), np.int16)))
    return network


def digest(network):
    """Of all tensors but architecture parameters, names included."""
    whole = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if not name.endswith(".alpha"):
            whole.update(name.encode() + tensor.numpy().tobytes())
    return whole.hexdigest()[:16]


@pytest.mark.parametrize("recipe", SEARCHES)
def test_costs_and_derivation(recipe, golden):
    supernet, _ = searched(recipe)
    cost, choices = tabulate(supernet, SIZE), Choices(supernet)
    generator = np.random.default_rng(7)
    rows = [torch.from_numpy(generator.dirichlet(np.ones(size))).float() for size in choices.sizes]
    dearest = cost.of(cost.best_within(None, rows))
    least = cost.of(cost.cheapest())
    found = {}
    for share in (1.0, 0.8, 0.5, 0.0):
        path = cost.best_within(least + share * (dearest - least), rows)
        found[str(share)] = [cost.of(path), str(supernet.architecture_of(path))]
    expected = {"expected cost": [float(cost.searched(rows))]}
    golden(f"derivation/{recipe}", expected, {"derived": found, "fixed": cost.fixed})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_remapped_tensors(strategy, golden):
    """Seed to supernet and to a network of other kernels, widths and depths, and that one from a supernet."""
    supernet, base = searched("fna/retinanet_coco_search")
    seed = Seed(base, whole_numbers(build_backbone(base, (8,))).state_dict())
    found = {}
    targets = {"supernet": supernet}
    targets |= {name: build_backbone(load_architecture(name), (7,)) for name in ("fna_retinanet", "fna_ssdlite")}
    for name, target in targets.items():
        for module in target.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.ones_(module.weight)
        remap(seed, target, strategy)
        found[name] = digest(target)
    path = [number % size for number, size in enumerate(Choices(supernet).sizes)]
    derived = build_backbone(supernet.architecture_of(path), (7,))
    remap(seed, derived, supernet_state=whole_numbers(supernet).state_dict())
    golden(f"remapping/{strategy}", {}, {**found, "derived": digest(derived)})
