"""How sure a ranking is: ranks over resamples of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

RESAMPLES = 200
Score = Callable[[Tensor | None], float]


def ranks(scores: Tensor) -> Tensor:
    """Return ranks from 1, the highest score first; equal scores share the better rank.

    Args:
        scores: ``(..., S)``; NaN ranks last.
    """
    filled = scores.nan_to_num(-torch.inf)
    return 1 + (filled[..., None, :] > filled[..., :, None]).sum(-1)


def resampled_rows(rows: Tensor, count: int, seed: int) -> list[Tensor]:
    """Return resamples of samples, with replacement: the same for every source.

    Args:
        rows: Sample of each row ``(M,)``, ascending; rows of a sample stay together.
        count: Number of resamples.
        seed: Seed.

    Returns:
        Positions in `rows`, one tensor per resample.
    """
    generator = torch.Generator().manual_seed(seed)
    _, sizes = torch.unique_consecutive(rows, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    found = []
    for _ in range(count):
        drawn = torch.randint(len(sizes), (len(sizes),), generator=generator)
        each = sizes[drawn]
        first = torch.repeat_interleave(starts[drawn] - (each.cumsum(0) - each), each)
        found.append(first + torch.arange(int(each.sum())))
    return found


def rank_ranges(scores: Sequence[Score], resamples: Iterable[Tensor]) -> list[tuple[int, int]]:
    """Return the ranks that each source has in 95 % of the resamples, the lowest and the highest.

    Args:
        scores: Score of each source on some rows.
        resamples: Positions of rows.
    """
    # float32 would round scores that differ to a tie
    drawn = [[score(rows) for score in scores] for rows in resamples]
    found = ranks(torch.tensor(drawn, dtype=torch.float64)).double()
    low, high = (
        found.quantile(q, dim=0, interpolation=way)
        for q, way in ((0.025, "lower"), (0.975, "higher"))
    )
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]
