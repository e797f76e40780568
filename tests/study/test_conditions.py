from __future__ import annotations

from typing import Any

from tl.study.conditions import conditions_of

RESULTS: dict[str, Any] = {
    "steps": 100,
    "data": {"a": {"images": {"train": 50, "val": 60}, "classes": {"fine": 10}, "name": "a"}},
}


def configured(callbacks: list[Any] | None, max_steps: int, **model: Any) -> dict[str, Any]:
    return {
        "trainer": {"callbacks": callbacks, "max_steps": max_steps},
        "model": {"init_args": {"batch_norm": "joint", "rescale": "none", **model}},
    }


def test_the_sizes_of_splits_are_those_of_the_data() -> None:
    assert conditions_of(RESULTS, {}).splits == {"a": (50, 60)}
    assert conditions_of({"steps": 1, "data": None}, {}).splits == {}
    texts = {"b": {"samples": {"train": 7, "val": 3}, "hash": {"train": "x", "val": "y"}}}
    assert conditions_of({"data": texts}, {}).splits == {"b": (7, 3)}
    unknown = {"c": {"samples": {"train": None, "val": 3}}, "d": "a text"}
    assert conditions_of({"data": unknown}, {}).splits == {}


def test_a_run_that_stops_early_is_told_from_one_that_is_cut_off() -> None:
    stops = [{"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {}}]
    assert conditions_of(RESULTS, configured(stops, 100)).cut_off
    assert not conditions_of(RESULTS, configured(stops, 101)).cut_off
    assert not conditions_of(RESULTS, configured(stops, -1)).cut_off
    assert not conditions_of(RESULTS, configured(None, 100)).cut_off
    by_epochs = configured(stops, -1)
    by_epochs["trainer"]["max_epochs"] = 4
    assert conditions_of({"epochs": 4}, by_epochs).cut_off
    assert not conditions_of({"epochs": 3}, by_epochs).cut_off


def test_an_update_is_rescaled_only_by_a_balancer() -> None:
    plain = conditions_of(RESULTS, configured(None, 1))
    assert plain.settings == {"model.init_args.batch_norm": "joint"}
    assert conditions_of(RESULTS, {"model": {"init_args": {}}}).settings == {}  # it has neither
    balanced = conditions_of(RESULTS, configured(None, 1, balancer={"class_path": "tl.PCGrad"}))
    assert balanced.settings["model.init_args.rescale"] == "none"
