from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tl.data.shifts import warps
from tl.data.shifts.draws import ImageDraws


def photo(size: int = 32) -> torch.Tensor:
    lines = torch.linspace(0, 1, size)
    found = torch.stack(
        [
            lines.expand(size, size),
            lines.expand(size, size).T,
            0.5 + 0.5 * (9 * lines).sin().expand(size, size),
        ],
        -1,
    )
    return found[None]


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_pixelate_is_pillows_box_filter(severity: int) -> None:
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    pixels = (photo() * 255).round()
    small = (int(32 * share),) * 2
    image = Image.fromarray(pixels[0].byte().numpy()).resize(small, Image.Resampling.BOX)
    expected = torch.from_numpy(np.array(image.resize((32, 32), Image.Resampling.BOX)))
    found = warps.pixelate(pixels / 255, severity)[0] * 255
    assert (found - expected.float()).abs().max() <= 1.01  # it rounds after each direction


def test_elastic_moves_an_image_by_an_affine_map_that_meets_its_points() -> None:
    """Severity 1 has no smooth field: a ramp stays a plane inside."""
    drawn = ImageDraws([5]).uniform(-0.08 * 32, 0.08 * 32, 3, 2)[0]
    seen = warps.elastic(photo(), 1, ImageDraws([5]))[0]
    before = torch.tensor([[26.0, 26.0], [26.0, 6.0], [6.0, 6.0]])
    for (x, y), (dx, dy) in zip(before.tolist(), drawn.tolist(), strict=True):
        # the colour of the old place, interpolated at the new one
        new = torch.tensor([[[[2 * (x + dx) / 31 - 1, 2 * (y + dy) / 31 - 1]]]])
        there = torch.nn.functional.grid_sample(
            seen.permute(2, 0, 1)[None], new, align_corners=True
        ).flatten()
        assert there[0] == pytest.approx(x / 31, abs=5e-3)
        assert there[1] == pytest.approx(y / 31, abs=5e-3)


class Still(ImageDraws):
    """Draws that leave the three points where they are."""

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        found = super().uniform(low, high, *shape)
        return torch.zeros_like(found) if shape == (3, 2) else found


@pytest.mark.parametrize("severity", [2, 3, 5])
def test_elastic_fields_are_the_scripts(severity: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    amount, sigma = {2: (0.05, 0.2), 3: (0.08, 0.06), 5: (0.1, 0.03)}[severity]
    draws = Still([5])
    draws.uniform(0, 0, 3, 2)
    dx, dy = (
        32 * amount * ndimage.gaussian_filter(field, 32 * sigma, mode="reflect", truncate=3)
        for field in draws.uniform(-1, 1, 2, 32, 32)[0].double().numpy()
    )
    lines, columns = np.mgrid[:32, :32]
    expected = [
        ndimage.map_coordinates(colour, [lines + dy, columns + dx], order=1, mode="reflect")
        for colour in photo()[0].double().permute(2, 0, 1).numpy()
    ]
    found = warps.elastic(photo(), severity, Still([5]))[0].permute(2, 0, 1)
    assert np.abs(found.numpy() - np.stack(expected)).max() < 1e-4


def test_elastic_fields_are_random_and_keep_a_flat_image() -> None:
    flat = torch.full((2, 16, 16, 3), 0.3)
    assert torch.allclose(warps.elastic(flat, 4, ImageDraws([0, 1])), flat, atol=1e-5)
    both = warps.elastic(photo(16).expand(2, -1, -1, -1), 4, ImageDraws([0, 1]))
    assert not torch.equal(both[0], both[1])


def test_jpeg_loses_more_at_a_higher_severity() -> None:
    noise = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0))
    lost = [float((warps.jpeg(noise, s) - noise).square().mean()) for s in (1, 5)]
    assert 0 < lost[0] < lost[1]
