from __future__ import annotations

import math

import numpy as np
import pytest

from tl.questions.measured import agreement, weighted_tau

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [False, True])
def test_the_weighted_tau_is_scipys(seed: int, ties: bool) -> None:
    drawn = np.random.default_rng(seed)
    x, y = drawn.normal(size=9), drawn.normal(size=9)
    if ties:
        x, y = np.round(x), np.round(y)
    assert weighted_tau(x, y) == pytest.approx(stats.weightedtau(x, y).statistic)


def test_the_best_count_most_and_a_constant_has_none() -> None:
    order = np.arange(6.0)
    best_wrong, last_wrong = order.copy(), order.copy()
    best_wrong[[4, 5]], last_wrong[[0, 1]] = [5, 4], [1, 0]
    assert weighted_tau(order, order) == 1
    assert weighted_tau(order, -order) == -1
    assert weighted_tau(best_wrong, order) < weighted_tau(last_wrong, order) < 1
    assert math.isnan(agreement("x", [1, 1, 1], [1, 2, 3]).tau)


def test_the_interval_of_no_relation_is_wide_with_few_sources() -> None:
    few, many = (agreement("x", range(n), range(n)) for n in (5, 12))
    assert few.high == pytest.approx(0.84, abs=0.08)
    assert many.high == pytest.approx(0.5, abs=0.08)
    assert many.beyond_chance
    drawn = np.random.default_rng(0)
    assert not agreement("x", drawn.normal(size=12), range(12)).beyond_chance
