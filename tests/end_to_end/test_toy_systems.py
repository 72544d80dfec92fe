"""The contracts' toy systems as a user's own package: searched, trained and scored by the entry points."""

import csv
from pathlib import Path

import pytest
from entries import CLASSIFICATION, start

from fna_lightning.architectures import load_parts

CONTRACTS = Path(__file__).parents[1] / "contracts"
# The groups of a user who searches them; `method` gives the space, `detector` what is around.
METHOD = """
# @package _global_
defaults: [/search: bilevel, _self_]
space: {{_target_: {}, _partial_: true}}
cost: {{weight: 0.1, log_base: 10, target: null, limit: 1.0e+9, input_size: [32, 32]}}
"""
CONF = {
    "method/tower": METHOD.format("tower.TowerSpace"),
    "method/widths": METHOD.format("widths.WidthSpace"),
    "detector/pyramid": """
defaults: [/task@_global_.task: classification, _self_]
_target_: tower.PyramidClassifier
_partial_: true
strides: [4, 8]
""",
}
AROUND = {
    "tower": ("detector=pyramid", "architecture=mobile_small"),
    "widths": ("detector=classifier", "detector.strides=[8]", "architecture=two_widths.txt"),
}
SMALL = (
    *CLASSIFICATION[1:],  # without its recipe
    "data=shapes_classification",
    "seed=none",
    "cost.input_size=[32,32]",
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """run(entry, *overrides) with the toys' package and configurations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(CONTRACTS)
    monkeypatch.setenv("FNA_LIGHTNING_ALLOW", "tower,widths")
    for name, text in CONF.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())

    Path("two_widths.txt").write_text("widths(8, 12)")

    def run_small(entry, *overrides):
        start(entry, "--config-dir", "conf", *SMALL, *overrides)

    return run_small


@pytest.mark.parametrize("system", AROUND)
def test_search_train_and_evaluate(run, system):
    around = [text for text in AROUND[system] if not text.startswith("architecture=")]
    run(
        "search",
        "~experiment",
        f"method={system}",
        *AROUND[system],
        "search.warmup_epochs=0",
        "hydra.run.dir=search",
    )
    part = "head" if system == "tower" else "backbone"
    found = load_parts(Path("search"))
    assert found[part].kind == system
    supernet = "search" if system == "tower" else "null"
    run(
        "train",
        "~experiment",
        *around,
        "architecture=search",
        "remap=fna",
        f"remap.source={'seed' if supernet == 'null' else 'supernet'}",
        f"remap.supernet={supernet}",
        "hydra.run.dir=train",
    )
    assert load_parts(Path("train")) == found
    with Path("train/remapping.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if system == "tower":
        head = [row for row in rows if row["target"].startswith("head.")]
        assert head
        assert all(row["source"] for row in head if row["target"].endswith("conv.weight"))
    start("evaluate", "checkpoint=train", "hydra.run.dir=evaluate", "trainer.enable_progress_bar=false")
    assert Path("evaluate/results.json").is_file()
