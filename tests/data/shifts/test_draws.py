from __future__ import annotations

import torch

from tl.data.shifts.draws import ImageDraws


def test_an_image_has_the_same_numbers_in_every_batch() -> None:
    together, alone = ImageDraws([3, 7]), ImageDraws([7])
    assert torch.equal(together.normal(4)[1], alone.normal(4)[0])
    assert torch.equal(together.uniform(-2, 2, 3)[1], alone.uniform(-2, 2, 3)[0])


def test_distributions() -> None:
    draws = ImageDraws(range(200))
    assert abs(draws.normal(100).std() - 1) < 0.02
    numbers = draws.uniform(-2.0, 4.0, 100)
    assert -2 <= numbers.min() < -1.9 < 3.9 < numbers.max() <= 4
    counts = draws.poisson(torch.full((200, 100), 9.0))
    assert abs(counts.mean() - 9) < 0.1
    assert abs(counts.var() - 9) < 0.3
