from __future__ import annotations

from typing import Any

import pytest

from tl.report.conditions import conditions_of_test

FOG = {"name": "fog", "severity": 3, "seed": 0}


def results(trained: dict[str, Any] | None = None, **tested: Any) -> dict[str, Any]:
    usual = {
        "checkpoint": "checkpoints/best.ckpt",
        "samples": {"a": {"from": 9, "of": 9}},
        "data": {"a": {"name": "a"}},
    }
    return {
        "best": {"checkpoint": "checkpoints/best.ckpt"},
        "data": {"a": trained or {"name": "a"}},
        "evaluated": {"test": {**usual, **tested}},
    }


def test_a_test_of_the_best_checkpoint_on_its_own_images_is_usual() -> None:
    assert conditions_of_test(results()) == {}
    assert conditions_of_test({}) == {}
    under_fog = {"name": "a", "shift": FOG}
    assert conditions_of_test(results(under_fog, data={"a": under_fog})) == {}


@pytest.mark.parametrize(
    ("tested", "said"),
    [
        (
            {"adaptation": [{"name": "Tent", "lr": 0.001}]},
            {"adaptation": "Tent (lr 0.001)"},
        ),
        ({"adaptation": [{"name": "AdaBN"}]}, {"adaptation": "AdaBN"}),
        ({"data": {"a": {"shift": FOG}}}, {"shift": "fog 3"}),
        ({"data": {"a": {"shift": FOG}, "b": {}}}, {"shift": "a fog 3"}),
        ({"samples": {"a": {"from": 8, "of": 9}}}, {"samples": "8 of 9"}),
        ({"samples": {"a": {"from": 8, "of": None}}}, {}),
        ({"checkpoint": "checkpoints/last.ckpt"}, {"checkpoint": "checkpoints/last.ckpt"}),
    ],
)
def test_what_is_unusual_is_said(tested: dict[str, Any], said: dict[str, str]) -> None:
    assert conditions_of_test(results(**tested)) == said


def test_a_run_that_trained_under_a_shift_and_is_tested_without() -> None:
    assert conditions_of_test(results({"name": "a", "shift": FOG})) == {"shift": "none"}
