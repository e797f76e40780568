from __future__ import annotations

import math

import pytest

from tl.report import Interval, mean_interval


def test_the_interval_of_three_values_by_hand() -> None:
    found = mean_interval([1.0, 2.0, 3.0])  # s = 1, t(2) = 4.303
    assert found.mean == pytest.approx(2.0)
    assert found.half_width == pytest.approx(4.303 / math.sqrt(3))
    assert not found.below_zero


def test_a_single_value_says_nothing_of_its_spread() -> None:
    found = mean_interval([0.5])
    assert found == Interval(0.5, math.inf, 1)
    assert found.percent() == "50.0 (one run)"


def test_signs_are_called_only_where_the_whole_interval_has_them() -> None:
    assert mean_interval([-0.1, -0.11, -0.12]).below_zero
    assert mean_interval([0.1, 0.11, 0.12]).percent(signed=True) == "+11.0 ± 2.5"


def test_many_values_use_the_widest_table_entry_left() -> None:
    values = [float(i % 2) for i in range(100)]
    assert mean_interval(values).half_width == pytest.approx(2.042 * 0.50252 / 10, rel=1e-3)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_a_mean_that_rounds_to_zero_has_no_minus() -> None:
    assert Interval(-0.0001, 0.001, 3).percent() == "0.0 ± 0.1"
    assert Interval(-0.0001, 0.001, 3).percent(signed=True) == "+0.0 ± 0.1"
