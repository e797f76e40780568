from __future__ import annotations

from tl.study.single import all_of, by_task, plain


def test_a_loss_counts_only_where_a_task_has_nothing_else() -> None:
    found = by_task(["test/a/miou", "test/a/loss", "test/b/loss", "test/acc"])
    assert found == {"a": {"miou": "test/a/miou"}, "b": {"loss": "test/b/loss"}}


def test_a_network_of_one_task_does_not_name_it() -> None:
    assert plain("test/a/miou") == "test/miou"
    assert plain("test/test/acc") == "test/acc"


def test_scores_are_whole_or_none() -> None:
    names = {"acc": "test/acc", "loss": "test/loss"}
    assert all_of(names, {"test/acc": 0.5, "test/loss": 1.0}) == {"acc": 0.5, "loss": 1.0}
    assert all_of(names, {"test/acc": 0.5}) == {}
