from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tl.study.statistics import (
    bootstrap_interval,
    critical_difference,
    deciding_steps,
    holm,
    interquartile_mean,
    paired,
    performance_profile,
    probability_of_improvement,
)


def test_pairs_are_students_by_hand_and_scipys() -> None:
    found = paired([3.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    # differences 2, 2, 3: mean 7/3, s = 1/sqrt(3), error 1/3, t(0.975, 2) = 4.3027
    assert found.mean == pytest.approx(7 / 3)
    assert found.half_width == pytest.approx(4.30265 / 3, rel=1e-5)
    assert found.smallest == pytest.approx(found.half_width)
    assert found.p == pytest.approx(stats.ttest_rel([3, 4, 6], [1, 2, 3]).pvalue)
    # at the level of Holm's first step, 0.05 / 4
    wider = paired([3.0, 4.0, 6.0], [1.0, 2.0, 3.0], comparisons=4).smallest
    assert wider == pytest.approx(stats.t.ppf(1 - 0.00625, 2) / 3)


def test_what_pairs_cannot_tell() -> None:
    single = paired([1.0], [0.0])
    assert (single.p, single.half_width, single.smallest) == (1.0, math.inf, math.inf)
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    # the same difference twice, but for rounding: two coins that fall alike
    assert paired([0.3, 0.4], [0.2, 0.3]).p == 0.5
    assert paired([0.3] * 6, [0.2] * 6).p == pytest.approx(stats.binomtest(6, 6).pvalue)
    with pytest.raises(ValueError, match="Pairs need equal counts, got 1 and 2"):
        paired([1.0], [1.0, 2.0])


def test_holm_by_hand() -> None:
    # in order of p: four times 0.01, three times 0.02, and then never below those 0.06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_smallest_difference_is_at_the_level_that_decided() -> None:
    assert deciding_steps([0.04, 0.001, 0.03, 0.002]) == [2, 4, 2, 3]  # two are told, then it stops
    assert deciding_steps([0.04, 0.03]) == [2, 2]
    assert deciding_steps([0.001, 0.03]) == [2, 1]
    draws = np.random.default_rng(0)
    counts = set()
    for _ in range(50):
        rows = [(draws.normal(0, 0.05, 5) + draws.uniform(0, 0.15)).tolist() for _ in range(4)]
        p_values = [paired(row, [0.0] * 5).p for row in rows]
        told = [p < 0.05 for p in holm(p_values)]
        counts.add(sum(told))
        for row, step, held in zip(rows, deciding_steps(p_values), told, strict=True):
            found = paired(row, [0.0] * 5, step)
            assert (abs(found.mean) > found.smallest) == held
    assert counts == {0, 1, 2, 3, 4}


def test_the_interquartile_mean_leaves_out_the_outer_quarters() -> None:
    assert interquartile_mean([0.0, 1.0, 2.0, 100.0]) == 1.5
    mean, low, high = bootstrap_interval([[1.0, 1.0], [3.0, 3.0]])
    assert (mean, low, high) == (2.0, 2.0, 2.0)  # strata keep both cells in every draw
    scores = np.random.default_rng(1).normal(size=(10, 5))
    mean, low, high = bootstrap_interval(scores.tolist())
    assert low < mean < high
    assert bootstrap_interval(scores.tolist()) == (mean, low, high)


def test_the_probability_of_improvement_is_mann_whitneys() -> None:
    assert probability_of_improvement([[1.0, 2.0]], [[1.0, 0.0]]) == (0.5 + 1 + 1 + 1) / 4
    x, y = np.random.default_rng(0).normal(size=(2, 8))
    u = stats.mannwhitneyu(x, y).statistic / 64
    assert probability_of_improvement([list(x)], [list(y)]) == pytest.approx(u)


def test_a_performance_profile_weighs_cells_alike() -> None:
    assert performance_profile([[1.0, 3.0, 3.0, 3.0], [1.0]], [0.0, 2.0, 3.0]) == [1.0, 0.375, 0.0]


def test_the_critical_difference_is_demsars() -> None:
    # Demsar (2006), table 5: q(0.05) is 2.343 for three methods and 2.569 for four
    ranks = critical_difference([[0.9, 0.8, 0.7, 0.6]] * 14)
    assert ranks.mean_ranks == (1.0, 2.0, 3.0, 4.0)
    assert ranks.critical_difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    three = critical_difference([[0.9, 0.8, 0.7]] * 5)
    assert three.critical_difference == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 5)), rel=1e-3)
    with pytest.raises(ValueError, match="Ranks need 5 data sets or more, got 4; seeds do not"):
        critical_difference([[0.9, 0.8]] * 4)


def test_two_hundred_studies_of_noise_name_a_winner_at_the_stated_rate() -> None:
    generator = np.random.default_rng(0)
    won = 0
    for _ in range(200):
        scores = generator.normal(size=(6, 5))  # five methods against one, five seeds
        p_values = [paired(list(scores[i]), list(scores[0])).p for i in range(1, 6)]
        won += min(holm(p_values)) < 0.05
    # at most 5 %; 99.9 % of 200 draws at that rate stay below 10 %
    assert won <= stats.binom.ppf(0.999, 200, 0.05)


@pytest.mark.parametrize("methods", [2, 3])
def test_methods_that_are_equal_everywhere_are_not_told_apart(methods: int) -> None:
    ranks = critical_difference([[0.1 * data_set] * methods for data_set in range(5)])
    assert ranks.p == 1.0
    assert set(ranks.mean_ranks) == {(methods + 1) / 2}
