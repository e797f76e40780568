from __future__ import annotations

import torch

from tl.data.shifts import noises
from tl.data.shifts.draws import ImageDraws

GREY = torch.full((100, 8, 8, 3), 0.5)


def test_noises_have_the_sizes_of_the_script() -> None:
    """Standard deviations at severity 5: 0.10; sqrt(0.5 / 50); 0.5 * 0.2."""
    for noise, std in (
        (noises.gaussian_noise, 0.10),
        (noises.shot_noise, 0.10),
        (noises.speckle_noise, 0.10),
    ):
        found = noise(GREY, 5, ImageDraws(range(100)))
        assert abs(float(found.std()) - std) < 0.002
        assert abs(float(found.mean()) - 0.5) < 0.002


def test_impulses_are_a_share_of_the_values_half_of_them_white() -> None:
    found = noises.impulse_noise(GREY, 5, ImageDraws(range(100)))
    assert abs(float((found == 1).float().mean()) - 0.035) < 0.005
    assert abs(float((found == 0).float().mean()) - 0.035) < 0.005
    assert set(found.flatten().tolist()) == {0.0, 0.5, 1.0}
