"""Windows by length: little padding, every text once, resumed at any step, divided among ranks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl.data.text.text_loaders import LengthSampler

LENGTHS = torch.randint(3, 40, (200,), generator=torch.Generator().manual_seed(0))


def sampler(window: int = 5, **options: Any) -> LengthSampler:
    given = {"batch_size": 8, "steps_per_epoch": 25, "num_replicas": 1, "rank": 0, **options}
    return LengthSampler(range(200), LENGTHS, window, **given)


def fill(batches: list[Tensor]) -> float:
    """Share of padding, each batch as long as its longest text."""
    cells = sum(int(LENGTHS[b].max()) * len(b) for b in batches)
    return 1 - sum(int(LENGTHS[b].sum()) for b in batches) / cells


def test_every_text_comes_once_with_less_padding() -> None:
    batches = list(sampler())
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(200))
    assert fill(batches) < 0.5 * fill(list(sampler(window=1)))
    means = torch.tensor([float(LENGTHS[b].float().mean()) for b in batches])
    assert not torch.equal(means, means.sort().values)  # batches are not in order of length


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def epoch(number: int, seed: int = 0) -> Tensor:
        made = sampler(seed=seed)
        made.set_epoch(number)
        return torch.cat(list(made))

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    assert not torch.equal(epoch(1), epoch(1, seed=1))


def test_it_resumes_at_any_step() -> None:
    whole = sampler()
    whole.set_epoch(3)
    batches = list(whole)
    for step in (0, 7, 24):
        rest = sampler()
        rest.position = lambda step=step: (3, step)
        for found, wanted in zip(rest, batches[step:], strict=True):
            assert torch.equal(found, wanted)


def test_two_ranks_see_what_one_sees() -> None:
    ranks = [list(sampler(batch_size=4, num_replicas=2, rank=rank)) for rank in range(2)]
    for one, *both in zip(sampler(), *ranks, strict=True):
        assert torch.equal(one.sort().values, torch.cat(both).sort().values)
