from __future__ import annotations

import colorsys

import pytest
import torch

from tl.data.shifts import colours


def pixels() -> torch.Tensor:
    found = torch.rand(4, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    found[0, 0, 0], found[0, 0, 1] = 0.0, 0.5  # black, and grey
    return found


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_brightness_and_saturation_are_those_of_hsv(severity: int) -> None:
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    factor, plus = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]
    bright, garish = colours.brightness(pixels(), severity), colours.saturate(pixels(), severity)
    rows = zip(*(each.reshape(-1, 3).tolist() for each in (pixels(), bright, garish)), strict=True)
    for pixel, brighter, changed in rows:
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        assert brighter == pytest.approx(colorsys.hsv_to_rgb(h, s, min(1, v + more)), abs=1e-5)
        saturation = min(1, s * factor + plus)
        assert changed == pytest.approx(colorsys.hsv_to_rgb(h, saturation, v), abs=1e-5)


def test_contrast_keeps_the_mean() -> None:
    found = colours.contrast(pixels(), 5)
    assert torch.allclose(found.mean((1, 2)), pixels().mean((1, 2)))
    assert torch.allclose(found.std((1, 2)), 0.15 * pixels().std((1, 2)))


def test_grey_has_no_colour_at_its_strongest() -> None:
    found = colours.grey(pixels(), 5)
    assert torch.equal(found[..., 0], found[..., 2])
    assert torch.allclose(colours.luma(found), colours.luma(pixels()))


def test_a_rotation_keeps_greys_and_ends_at_the_opposite_colour() -> None:
    grey = torch.full((1, 1, 1, 3), 0.4)
    assert torch.allclose(colours.colour_rotation(grey, 3), grey)
    red = torch.tensor([0.9, 0.0, 0.0]).view(1, 1, 1, 3)
    opposite = 2 * red.mean() - red
    assert torch.allclose(colours.colour_rotation(red, 5), opposite, atol=1e-6)
