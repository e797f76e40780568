"""Scores read as text, and a single task's are the evaluation's own."""

from __future__ import annotations

import pytest
import torch

from tl.serving.scores import Evaluation, TaskScores
from tl.tasks import Classification, Regression
from tl.tasks.confusion import Confusion


def pets() -> TaskScores:
    confusion = Confusion(torch.tensor([[3, 1], [0, 4]]), ["cat", "dog"], "pets")
    return TaskScores(Classification("pets", 2), 8, {"loss": 0.5, "acc": 0.875}, confusion)


def test_a_single_task_is_the_evaluation() -> None:
    found = Evaluation({"pets": pets()}, {"test/acc": 0.875}, {"a.png": "truncated"})
    assert found.accuracy == found["pets"].accuracy == 0.875
    assert found.f1 == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert repr(found).splitlines() == [
        "task  samples  loss    acc     f1",
        "pets        8   0.5  0.875  0.873",
        "1 could not be read, the first: a.png (truncated)",
    ]
    assert repr(pets()) == "TaskScores(pets: acc=0.875, f1=0.873, loss=0.5, 8 samples)"
    assert "a.png (truncated)" in found._repr_html_()


def test_labels_have_scores_of_their_own() -> None:
    task = Classification("tags", 2, multi_label=True)
    counts = torch.tensor([[3, 0], [1, 0], [2, 0]])
    found = TaskScores(task, 8, {"loss": 1.0, "f1": 0.6}, labels=counts, names=["sun", "sea"])
    sun, sea = found.per_class
    assert sun == {"label": "sun", "samples": 5, "recall": 0.6, "precision": 0.75, "f1": 2 / 3}
    assert (sea["samples"], sea["recall"], sea["f1"]) == (0, None, None)
    with pytest.raises(AttributeError, match="tags answers 2 labels, which has no accuracy; it"):
        _ = found.accuracy


def test_what_a_task_lacks_is_one_line() -> None:
    found = TaskScores(Regression("height"), 8, {"loss": 1.0})
    for name in ("confusion", "accuracy", "f1", "per_class"):
        with pytest.raises(AttributeError, match=r"\Aheight answers [^\n]*; it has its loss\.\Z"):
            getattr(found, name)
    both = Evaluation({"pets": pets(), "height": found}, {}, {})
    with pytest.raises(AttributeError, match=r"choose one, as evaluation\['pets'\]\.f1"):
        _ = both.f1
    assert [row["task"] for row in both.table] == ["pets", "height"]
