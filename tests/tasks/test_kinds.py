"""Kinds of task, by the name that checkpoints keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from tl import Classification, Regression, Task
from tl.tasks import as_task, deciding_score, score_directions


def test_a_kind_that_this_version_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"'a' is of the kind 'shadow', .* it knows .*regr"):
        as_task({"name": "a", "kind": "shadow"})


def test_a_class_that_is_defined_again_replaces_the_first() -> None:
    def define() -> type[Task]:
        @dataclass(frozen=True, init=False)
        class Again(Regression):
            kind: ClassVar[str] = "test_again"

        return Again

    kinds = define(), define()
    assert type(as_task(kinds[0]("a").record())) is kinds[1]


def test_two_classes_of_one_kind_are_refused() -> None:
    @dataclass(frozen=True, init=False)
    class One(Regression):
        kind: ClassVar[str] = "test_twice"

    @dataclass(frozen=True, init=False)
    class Other(Regression):
        kind: ClassVar[str] = "test_twice"

    with pytest.raises(ValueError, match=r"kind 'test_twice', which .*One and .*Other both are"):
        as_task(Other("a").record())
    assert One("a").kind == Other("a").kind


def test_scores_have_the_direction_on_which_all_kinds_agree() -> None:
    found = score_directions()
    wanted = {"loss": "min", "acc": "max", "miou": "max", "abs": "min", "delta1": "max"}
    assert wanted.items() <= found.items()

    @dataclass(frozen=True, init=False)
    class Deviance(Regression):
        kind: ClassVar[str] = "test_deviance"
        score: ClassVar[str] = "test_deviance"

    @dataclass(frozen=True, init=False)
    class Explained(Deviance):
        kind: ClassVar[str] = "test_explained"
        higher_is_better: ClassVar[bool] = True

    assert Explained("a").score == Deviance("a").score
    assert "test_deviance" not in score_directions()


def test_the_score_that_all_tasks_share_decides() -> None:
    one, other, number = Classification("a", 2), Classification("b", 3), Regression("c")
    assert deciding_score([one, other]) == ("acc", True)
    assert deciding_score([number]) == ("mae", False)
    assert deciding_score([one, number]) == ("loss", False)
    assert deciding_score([one, Regression("c", trains=False)]) == ("acc", True)
