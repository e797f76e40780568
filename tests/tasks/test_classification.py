from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional
from torchmetrics.functional.classification import (
    multilabel_average_precision,
    multilabel_f1_score,
)

from tl import Classification

NAN = float("nan")
LABELS = Classification("a", 3, multi_label=True)


def logits(rows: int = 6, classes: int = 3) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_are_those_of_torch(smoothing: float) -> None:
    weights = [0.5, 1.0, 3.0]
    target = torch.tensor([0, 2, -1, 1, 2, 0])
    found = Classification("a", 3, class_weights=weights).training_loss(logits(), target, smoothing)
    wanted = functional.cross_entropy(
        logits(), target, torch.tensor(weights), ignore_index=-1, label_smoothing=smoothing
    )
    torch.testing.assert_close(found, wanted)


def test_labels_that_are_not_known_are_left_out_of_loss_and_scores() -> None:
    given = torch.tensor([[1, 0, -1], [0, 1, 1], [1, 1, 0], [0, 0, 1], [1, -1, 0], [0, 1, 0]])
    target = LABELS.settle(given.float().masked_fill(given < 0, NAN))
    assert torch.equal(LABELS.truth(target), given)
    known = given >= 0
    wanted = functional.binary_cross_entropy_with_logits(logits()[known], given[known].float())
    torch.testing.assert_close(LABELS.loss(logits(), target), wanted)
    assert LABELS.present(LABELS.truth(target)) == known.sum()
    found = {}
    for name, score in LABELS.scores().items():
        LABELS.observe(score, logits(), LABELS.truth(target))
        found[name] = score.compute()
    same: dict[str, Any] = {"num_labels": 3, "average": "macro", "ignore_index": -1}
    torch.testing.assert_close(found["map"], multilabel_average_precision(logits(), given, **same))
    torch.testing.assert_close(found["f1"], multilabel_f1_score(logits(), given, **same))


def test_positive_labels_may_weigh_more() -> None:
    weights = [1.0, 2.0, 4.0]
    task = Classification("a", 3, multi_label=True, pos_weight=weights)
    target = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    wanted = functional.binary_cross_entropy_with_logits(
        logits(2), target, pos_weight=torch.tensor(weights)
    )
    torch.testing.assert_close(task.loss(logits(2), target), wanted)


def test_without_any_label_loss_and_gradient_are_zero() -> None:
    output = logits().requires_grad_()
    loss = LABELS.loss(output, torch.full((6, 3), NAN))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert output.grad is not None
    assert not output.grad.any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            torch.tensor([[0.0, 1, 0.5]]),
            "label 2 of sample 0 of the batch is 0.5; expected 0",
        ),
        (torch.tensor([0, 1, 2]), r"are of shape \(3,\); expected 0 and 1 of shape \(N, 3\)"),
        ([0, 1, 2], "are a list; expected 0 and 1"),
    ],
)
def test_other_targets_of_several_labels_are_one_line(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LABELS.check(given)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"class_weights": [1.0]}, r"`class_weights` of task 'a' must be 3 positive numbers"),
        ({"class_weights": [1, 1, 0]}, r"positive numbers, one for each class, got \[1.0, 1.0, 0"),
        ({"class_weights": [1, 1, float("inf")]}, r"positive numbers, .* got \[1.0, 1.0, inf"),
        ({"pos_weight": [1, 1, 1]}, "one class per sample; give it `class_weights`"),
        ({"multi_label": True, "class_weights": [1, 1, 1]}, "several labels per sample; give it"),
    ],
)
def test_weights_fit_the_classes(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Classification("a", 3, **settings)


def test_rows_name_what_is_predicted() -> None:
    output = torch.tensor([[2.0, 1.0, -3.0], [-2.0, -1.0, -3.0]])
    names = ["ant", "bee", "cat"]
    one = Classification("a", 3)
    assert one.cells(one.answer(output), names)[0] == {
        "class": "0",
        "class_name": "ant",
        "probability": "0.727475",
        "top5": "ant 0.7275; bee 0.2676; cat 0.0049",
    }
    several = LABELS.cells(LABELS.answer(output), names)
    assert [row["class_name"] for row in several] == ["ant; bee", ""]
    assert several[1]["top5"].startswith("bee 0.2689; ant 0.1192")


def test_a_loss_of_ones_own_is_the_one_that_trains() -> None:
    class Doubled(Classification):
        kind = "doubled_classification"

        def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 2 * super().loss(output, target)

    logits, labels = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 0])
    plain, own = Classification("a", 2), Doubled("a", 2)
    assert own.training_loss(logits, labels, 0.0) == 2 * plain.loss(logits, labels)
    assert plain.training_loss(logits, labels, 0.0) == plain.loss(logits, labels)
    with pytest.raises(ValueError, match="Task 'a' has a loss of its own, without label smooth"):
        own.training_loss(logits, labels, 0.1)
    several = Classification("a", 2, multi_label=True)
    marks = torch.tensor([[1.0, 0.0], [1.0, torch.nan]])
    assert several.training_loss(logits, marks, 0.0) == several.loss(logits, marks)


def test_right_labels_are_counted_where_they_are_known() -> None:
    task = Classification("a", 3, multi_label=True)
    output = torch.tensor([[2.0, -1.0, 3.0], [-1.0, 1.0, 0.5]])
    target = torch.tensor([[1, 0, 0], [1, -1, 1]])
    assert task.right_or_wrong
    assert task.right(output, target) == 3
    assert task.present(target) == 5
    plain = Classification("a", 3)
    assert plain.right(output, torch.tensor([2, -1])) == 1
