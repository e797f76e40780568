from __future__ import annotations

import torch

from tl.data.shifts.draws import ImageDraws
from tl.data.shifts.fog import fog, plasma


def by_loops(noise: torch.Tensor, decay: float) -> torch.Tensor:
    """Diamond-square for one image, point by point."""
    size = len(noise)
    found, step, rough = torch.zeros(size, size), size, 100.0
    while step > 1:
        half = step // 2
        before = found.clone()
        for i in range(0, size, step):
            for j in range(0, size, step):
                corners = [(i, j), (i + step, j), (i, j + step), (i + step, j + step)]
                mean = sum(before[a % size, b % size] for a, b in corners) / 4
                found[i + half, j + half] = mean + rough**2 * noise[i + half, j + half]
        for i in range(0, size, half):
            for j in range(0, size, half):
                if (i // half + j // half) % 2:
                    beside = [(i - half, j), (i + half, j), (i, j - half), (i, j + half)]
                    mean = sum(found[a % size, b % size] for a, b in beside) / 4
                    found[i, j] = mean + rough**2 * noise[i, j]
        step, rough = half, rough / decay
    found -= found.min()
    return found / found.max()


def test_height_maps_are_those_of_diamond_square() -> None:
    noise = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = plasma(noise, 2.0)
    for each, expected in zip(found, noise, strict=True):
        assert torch.allclose(each, by_loops(expected, 2.0), atol=1e-5)


def test_fog_lightens_and_flattens() -> None:
    images = torch.rand(8, 12, 20, 3, generator=torch.Generator().manual_seed(0))
    seen = fog(images, 5, ImageDraws(range(8)))
    assert seen.max() <= images.max() + 1e-6
    assert seen.std() < 0.8 * images.std()
    assert seen.shape == images.shape
