"""How far MobileNetV2's maps are from the seed's before training, by rule and architecture (docs/search.md).

python benchmarks/remapping.py /data/bccd --weights mobilenet_v2.pth
"""

from __future__ import annotations

import argparse

from hydra import compose, initialize_config_dir

from fna_lightning.architectures import load_architecture, parse_architecture
from fna_lightning.backbones import build_backbone
from fna_lightning.blocks import Normalize
from fna_lightning.checkpoints import load_seed
from fna_lightning.files import CONF_DIR
from fna_lightning.remapping import differences, remap, seed_network, with_moments
from fna_lightning.runs import build, datasets

FITTED, COMPARED = 8, 2
"""Batches of training images: to refit by, and others to compare on."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bccd", help="blood cells in COCO's format")
    parser.add_argument("--weights", required=True, help="MobileNetV2's of ImageNet")
    arguments = parser.parse_args()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", [f"data.root={arguments.bccd}", "experiment=bccd/train"])
    data = datasets.build_data(config, build.make(config.task))
    normalize = Normalize()
    images = [normalize(batch.images) for batch in data.statistics_batches(FITTED + COMPARED)]
    seed = load_seed(arguments.weights)
    text = str(load_architecture("mobilenet_v2"))
    stages = text.split("|\n")
    deep = [stage if number in (0, 6) else _deepened(stage) for number, stage in enumerate(stages)]
    networks = {
        "kernels of 7 everywhere, four layers in every stage": "|\n".join(deep).replace("k3_e6", "k7_e6"),
        "expansion 3 everywhere": text.replace("e6", "e3"),
        "expansion 3 in stage 5": "|\n".join([*stages[:4], stages[4].replace("e6", "e3"), *stages[5:]]),
    }
    for name, form in networks.items():
        for strategy in ("fna", "width_bn", "preserving"):
            target = build_backbone(parse_architecture(form), (2, 3, 5, 7))
            beside = seed_network(seed, target)
            assert beside is not None
            known = with_moments(seed, beside, images[:FITTED])
            remap(known, target, strategy)
            off = differences(seed, beside, target, images[FITTED:])
            print(f"{name}, {strategy}: {', '.join(f'{value:.2f}' for value in off.values())}", flush=True)


def _deepened(stage: str) -> str:
    """The text of a stage with four layers."""
    start, end = stage.index("['"), stage.index("']")
    return f"{stage[:start]}['k3_e6', 'k3_e6', 'k3_e6', 'k3_e6{stage[end:]}"


if __name__ == "__main__":
    main()
