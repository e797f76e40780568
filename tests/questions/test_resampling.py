from __future__ import annotations

import math

import torch
from torch import Tensor

from tl.questions.resampling import rank_ranges, ranks, resampled_rows


def test_ranks_share_and_nan_is_last() -> None:
    assert ranks(torch.tensor([0.5, 0.9, 0.5, math.nan])).tolist() == [2, 1, 2, 4]


def test_rows_of_a_sample_stay_together() -> None:
    rows = torch.tensor([0, 0, 0, 1, 2, 2])
    for drawn in resampled_rows(rows, 20, seed=0):
        _, lengths = torch.unique_consecutive(rows[drawn], return_counts=True)
        sizes = {0: 3, 1: 1, 2: 2}
        picked = rows[drawn]
        for sample, size in sizes.items():
            assert int((picked == sample).sum()) % size == 0
        assert len(lengths) <= 3
    again = resampled_rows(rows, 20, seed=0)
    pairs = zip(again, resampled_rows(rows, 20, seed=0), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_ranges_of_what_is_far_apart_and_of_what_is_not() -> None:
    drawn = torch.Generator().manual_seed(0)
    right = [torch.rand(300, generator=drawn) < share for share in (0.9, 0.5, 0.5, 0.1)]

    def score_of(each: Tensor) -> object:
        return lambda rows: float(each[rows].double().mean())

    scores = [score_of(each) for each in right]
    found = rank_ranges(scores, resampled_rows(torch.arange(300), 200, seed=0))  # type: ignore[arg-type]
    assert found == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_scores_that_float32_cannot_tell_apart_have_ranks_of_their_own() -> None:
    scores = [lambda _: 0.5, lambda _: 0.5 + 1e-9]
    assert rank_ranges(scores, [torch.arange(1)] * 3) == [(2, 2), (1, 1)]
