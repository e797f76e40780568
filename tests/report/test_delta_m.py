from __future__ import annotations

import math

import pytest

from tl.report import delta_m, delta_m_interval


def test_a_value_by_hand() -> None:
    # (0.81 - 0.9) / 0.9 = -0.1 and (0.55 - 0.5) / 0.5 = 0.1 and, an error, -(3 - 2) / 2 = -0.5
    values = {"a": 0.81, "b": 0.55, "c": 3.0}
    assert delta_m(values, {"a": 0.9, "b": 0.5, "c": 2.0}, {"c"}) == pytest.approx(-0.5 / 3)


def test_several_scores_of_a_task_count_as_one() -> None:
    # seg: (0.45 - 0.5) / 0.5 = -0.1 and (0.88 - 0.8) / 0.8 = 0.1, on average 0
    # depth, errors: -(0.3 - 0.4) / 0.4 = 0.25 and -(0.22 - 0.2) / 0.2 = -0.1, and a share:
    # (0.66 - 0.6) / 0.6 = 0.1, on average 1 / 12
    # normals, an error alone: -(22 - 20) / 20 = -0.1
    values = {
        "seg": {"miou": 0.45, "acc": 0.88},
        "depth": {"abs": 0.3, "rel": 0.22, "delta1": 0.66},
        "normals": {"mean": 22.0},
    }
    alone = {
        "seg": {"miou": 0.5, "acc": 0.8},
        "depth": {"abs": 0.4, "rel": 0.2, "delta1": 0.6},
        "normals": {"mean": 20.0},
    }
    lower = {"depth/abs", "depth/rel", "normals"}
    assert delta_m(values, alone, lower) == pytest.approx((0 + 1 / 12 - 0.1) / 3)
    with pytest.raises(ValueError, match="the scores mean of 'normals', the baseline median"):
        delta_m(values, {**alone, "normals": {"median": 20.0}}, lower)


def test_the_baselines_themselves_are_zero() -> None:
    assert delta_m({"a": 0.3, "b": 0.7}, {"b": 0.7, "a": 0.3}) == 0


def test_each_seed_is_set_against_its_own_baseline() -> None:
    values = [{"a": 0.5}, {"a": 0.8}]
    found = delta_m_interval(values, [{"a": 0.4}, {"a": 0.64}])
    assert found.mean == pytest.approx(0.25)
    assert found.half_width == pytest.approx(0, abs=1e-12)
    assert found.mean > found.half_width


@pytest.mark.parametrize(
    ("values", "baselines", "lower", "said"),
    [
        ({"a": 1.0}, {"b": 1.0}, (), "has the tasks a, the baselines b"),
        ({"a": 1.0}, {"a": 0.0}, (), "baseline of 'a' is 0; compare another score, such as mae"),
        # with R2 of -0.1 alone and 0.5 together, a gain would be -600 %
        ({"a": 0.5}, {"a": -0.1}, (), "needs positive scores, and the baseline of 'a' is -0.1;"),
        ({"a": 1.0}, {"a": math.nan}, (), "the baseline of 'a' is nan"),
        ({"a": 1.0}, {"a": math.inf}, ("a",), "the baseline of 'a' is inf"),
        ({"a": 1.0}, {"a": 1.0}, ("b",), "names b, which is not a task"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    values: dict[str, float], baselines: dict[str, float], lower: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        delta_m(values, baselines, lower)


def test_of_several_scores_the_one_that_is_not_positive_is_named() -> None:
    with pytest.raises(ValueError, match=r"the baseline of 'age/r2' is -0\.1; compare"):
        delta_m({"age": {"r2": 0.5, "mae": 1.0}}, {"age": {"r2": -0.1, "mae": 2.0}}, {"age/mae"})


def test_seeds_must_match() -> None:
    with pytest.raises(ValueError, match="2 runs and 1 baselines"):
        delta_m_interval([{"a": 1.0}, {"a": 1.0}], [{"a": 1.0}])
