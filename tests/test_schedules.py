"""Learning rates of a whole run, as an optimiser sees them, against plain formulas."""

import math

import pytest
import torch

from fna_lightning.schedules import cosine, multistep

STEPS, EPOCHS = 200, 12


def rates(schedule, base=0.02, steps=STEPS * EPOCHS, **settings):
    """The rate at which each iteration steps."""
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=base)
    scheduler = schedule(optimizer, steps_per_epoch=STEPS, epochs=EPOCHS, **settings)
    result = []
    for _ in range(steps):
        parameter.grad = torch.ones(())
        before = parameter.item()
        optimizer.step()
        assert before - parameter.item() == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-3, abs=1e-7)
        result.append(optimizer.param_groups[0]["lr"])
        parameter.data.zero_()
        scheduler.step()
    return result


def warmup(step, steps, factor):
    return min(1.0, factor + (1 - factor) * step / steps) if steps else 1.0


@pytest.mark.parametrize(("steps", "factor"), [(500, 1 / 3), (0, 1 / 3), (50, 0.1)])
def test_multistep(steps, factor):
    """FNA: from a third over 500 iterations, a tenth at epochs 8 and 11."""
    found = rates(multistep, milestones=[8, 11], gamma=0.1, warmup_steps=steps, warmup_factor=factor)
    wanted = [
        0.02 * warmup(step, steps, factor) * 0.1 ** ((step >= 8 * STEPS) + (step >= 11 * STEPS))
        for step in range(STEPS * EPOCHS)
    ]
    assert found == pytest.approx(wanted, rel=1e-9)


def test_numbers_of_the_paper():
    found = rates(multistep, base=0.05, milestones=[8, 11], warmup_steps=500)
    places = {0: 0.05 / 3, 250: 0.05 * 2 / 3, 500: 0.05, 1599: 0.05, 1600: 0.005, 2199: 0.005, 2200: 0.0005}
    assert {step: found[step] for step in places} == pytest.approx(places, rel=1e-9)


def test_milestones_between_epochs_and_behind_the_run():
    found = rates(multistep, milestones=[0.5, 100])
    assert found[99] == pytest.approx(0.02)
    assert found[100] == found[-1] == pytest.approx(0.002)


@pytest.mark.parametrize(("steps", "final"), [(0, 0.0), (100, 0.0), (100, 1e-3)])
def test_cosine(steps, final):
    found = rates(cosine, final_lr=final, warmup_steps=steps, warmup_factor=0.1)
    total = STEPS * EPOCHS
    for step in range(0, total, 7):
        plain = final + (0.02 - final) * (1 + math.cos(math.pi * step / total)) / 2
        if step >= steps and final == 0:
            assert found[step] == pytest.approx(plain, rel=1e-6, abs=1e-12)
        elif steps == 0 or final == 0:
            assert found[step] == pytest.approx(plain * warmup(step, steps, 0.1), rel=1e-6, abs=1e-12)
    assert found[0] == pytest.approx(0.02 * (0.1 if steps else 1.0))
    assert max(found[steps:]) == found[steps]
    assert found[-1] == pytest.approx(final, abs=1e-4)


def test_more_steps_than_planned_do_no_harm():
    assert rates(cosine, steps=STEPS * EPOCHS + 5)[-1] < 1e-6
