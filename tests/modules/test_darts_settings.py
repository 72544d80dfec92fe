"""Weight steps on the mixture, the second order and one set for both, in the module and under a real trainer."""

import pytest
import torch

from fna_lightning.errors import ConfigError
from fna_lightning.modules import AlphaTraining, SearchData
from fna_lightning.search import CostObjective

DARTS = {"weights_on": "mixture", "order": 2}


@pytest.mark.parametrize("alphas", [{}, {"weights_on": "mixture"}, DARTS], ids=str)
def test_no_optimizer_has_parameters_of_the_other(adaptation, alphas):
    """FAD's release trains the architecture parameters by both (spec FAD 7.1)."""
    module, data = adaptation.search(alphas=alphas)
    trainer = adaptation.trainer(max_epochs=1)
    trainer.fit(module, data)
    weights, architecture = (
        [id(p) for group in optimizer.param_groups for p in group["params"]] for optimizer in trainer.optimizers
    )
    assert sorted(architecture) == sorted(map(id, module.alphas.values))
    assert sorted(weights) == sorted(map(id, module.network.parameters()))
    assert not set(weights) & set(architecture)


@pytest.mark.parametrize("order", [1, 2])
def test_nothing_is_drawn_for_the_mixture(adaptation, order):
    """Not in the warm-up either, in which the architecture parameters stay as they began."""
    module, data = adaptation.search(warmup_epochs=1, alphas={"weights_on": "mixture", "order": order})
    mixtures, step = [], module.search.weight_step

    def spy(*given):
        step(*given)
        assert all(choice.active is None for choice in module.choices)
        mixtures.append(torch.cat([choice.weights.clone() for choice in module.choices]))
        return {}

    module.search.weight_step = spy
    module.choices.draw = None
    start = torch.cat(module.alphas.weights()).detach()
    adaptation.trainer(max_epochs=2).fit(module, data)
    assert len(mixtures) == 6
    assert all(torch.equal(mixture, start) for mixture in mixtures[:3])
    assert len({tuple(mixture.tolist()) for mixture in mixtures[3:]}) == 3
    torch.testing.assert_close(mixtures[-1], torch.cat(module.alphas.weights()).detach())
    assert "path" not in module.progress
    assert module.progress["loss"] > 0


def test_the_second_order_gives_other_parameters_and_the_same_draws(adaptation):
    found = []
    for order in (1, 2):
        module, data = adaptation.search(warmup_epochs=0, alphas={"order": order})
        drawn, draw = [], module.choices.draw
        module.choices.draw = lambda *given, drawn=drawn, draw=draw: drawn.append(given[:2]) or draw(*given)
        adaptation.trainer(max_epochs=1).fit(module, data)
        found.append((drawn, torch.cat(list(module.alphas.values)).detach()))
    assert found[0][0] == found[1][0] == [(7, 0), (7, 1), (7, 2)]
    assert not torch.equal(found[0][1], found[1][1])
    assert torch.isfinite(found[1][1]).all()


def test_a_second_order_through_another_optimizer_is_refused(adaptation):
    module, data = adaptation.search(alphas=DARTS, weights=lambda given: torch.optim.AdamW(given, 0.01))
    with pytest.raises(
        ConfigError, match=r"search.order=2 .* search.weights is AdamW: give optimizer@search.weights"
    ):
        adaptation.trainer().fit(module, data)
    assert module.iteration == 0


def test_a_second_order_in_half_precision_is_refused(adaptation):
    module, data = adaptation.search(alphas=DARTS)
    with pytest.raises(ConfigError, match=r"precision=bf16-mixed: search\.order=2 runs in 32-true"):
        adaptation.trainer(precision="bf16-mixed").fit(module, data)
    assert module.iteration == 0


def test_a_second_order_of_drawn_paths_is_refused():
    with pytest.raises(ConfigError, match=r"search.paths=8 .*give search.paths=0 or search.order=1"):
        AlphaTraining(torch.optim.Adam, CostObjective(0.1), drawn=8, order=2)


def files(batches):
    return [name for batch in batches for name in batch.files]


@pytest.mark.parametrize("augment", [True, False])
def test_without_a_split_both_see_all_images_in_orders_of_their_own(adaptation, augment):
    inner = adaptation.data()
    data = SearchData(inner, 0, augment, 0, 1)
    data.setup("fit")
    loader = data.train_dataloader()
    orders = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == 6
        orders += [files(b.weight for b in batches), files(b.architecture for b in batches)]
        assert not any(torch.equal(b.weight.images, b.architecture.images) for b in batches)
    assert all(len(set(order)) == 24 for order in orders)
    assert len(set(map(tuple, orders))) == 6
    plain = inner.train_dataloader()
    plain.set_epoch(2)
    assert files(plain) == orders[4]  # the weights' order is that of a training
    data.teardown("fit")


def test_without_a_split_augmentations_are_independent(adaptation):
    """Of one image in one epoch; that of the weights is a training's."""
    inner = adaptation.data()
    inner.setup("fit")
    loaders = (*inner.search_dataloaders(0), inner.train_dataloader().loader)
    weights, architecture, training = (
        {name: image for batch in loader for name, image in zip(batch.files, batch.images, strict=True)}
        for loader in loaders
    )
    assert all(torch.equal(image, training[name]) for name, image in weights.items())
    assert sum(torch.equal(image, architecture[name]) for name, image in weights.items()) < 24


def test_statistics_are_of_all_images_without_a_split(adaptation):
    found = []
    for share in (0, 0.5):
        data = SearchData(adaptation.data(), share, True, 0, 1)
        data.setup("fit")
        found.append(len(set(files(data.statistics_batches(6)))))
    assert found == [24, 12]
