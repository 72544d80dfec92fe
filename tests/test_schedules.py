"""Learning rates of a whole run, as an optimiser sees them, against plain formulas."""

import math

import pytest
import torch

from fna_lightning.schedules import cosine, multistep, poly

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


def test_a_constant_warmup():
    """FAD: a third for 500 iterations."""
    found = rates(multistep, milestones=[2, 11], warmup_steps=500, warmup_factor=1 / 3, warmup="constant")
    wanted = [
        0.02 * (1 / 3 if step < 500 else 1) * 0.1 ** ((step >= 2 * STEPS) + (step >= 11 * STEPS))
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
    """FNA's search of DeepLabV3: a warm-up, then a cosine that does not end at zero."""
    found = rates(cosine, final_lr=final, warmup_steps=steps, warmup_factor=0.005)
    rest = STEPS * EPOCHS - steps
    wanted = [
        0.02 * warmup(step, steps, 0.005)
        if step < steps
        else final + (0.02 - final) * (1 + math.cos(math.pi * (step - steps) / rest)) / 2
        for step in range(STEPS * EPOCHS)
    ]
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-10)


def test_poly():
    """FNA's DeepLabV3: from 1e-4 to 0.01 over the warm-up, then power 0.9 of what is left, to 0."""
    found = rates(poly, base=0.01, warmup_steps=120, warmup_factor=0.01)
    total = STEPS * EPOCHS
    wanted = [
        0.01 * warmup(step, 120, 0.01) if step < 120 else 0.01 * (1 - (step - 120) / (total - 120)) ** 0.9
        for step in range(total)
    ]
    assert found == pytest.approx(wanted, rel=1e-6)
    assert rates(poly)[:2] == pytest.approx([0.02, 0.02 * (1 - 1 / total) ** 0.9])


@pytest.mark.parametrize("schedule", [cosine, poly])
def test_a_run_may_be_longer_than_planned_or_end_in_its_warmup(schedule):
    assert rates(schedule, steps=STEPS * EPOCHS + 5)[-1] < 1e-6
    longer = STEPS * EPOCHS + 100
    assert rates(schedule, warmup_steps=longer, warmup_factor=0.5)[-1] == pytest.approx(
        0.02 * warmup(STEPS * EPOCHS - 1, longer, 0.5)
    )
