"""What the last line of a search claims."""

import pytest

from fna_lightning.runs.finals import Standing, verdict


@pytest.mark.parametrize(
    ("found", "seed", "words"),
    [
        ((0.52, 0.53, 0.54), (0.50, 0.51, 0.52), "better by +0.020 with a standard error of 0.000"),
        ((0.50, 0.51, 0.53), (0.50, 0.51, 0.52), "as good as the seed's (+0.003 with a standard error of 0.003)"),
        ((0.49, 0.53), (0.50, 0.51), "as good as the seed's"),
        ((0.40, 0.41, 0.42), (0.50, 0.51, 0.52), "worse by -0.100"),
        ((0.52,), (0.50,), "one training tells no spread (search.finalist_repeats=3)"),
    ],
)
def test_no_more_is_claimed_than_was_seen(found, seed, words):
    line = verdict(Standing("finalist_1", 3e8, found), Standing("seed", 4e8, seed), 30, "mAP")
    assert words in line
    assert "mAP on 30 held-out training images" in line
    assert "at 300 M" in line
    assert "at 400 M" in line


def test_the_seeds_own_network_and_none():
    seed = Standing("seed", 4e8, (0.5, 0.5))
    assert "no finalist is better: keep it" in verdict(seed, seed, 30, "mIoU")
    assert "none of this space" in verdict(Standing("finalist_2", 3e8, (0.5,)), None, 30, "mIoU")
