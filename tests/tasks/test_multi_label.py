"""Samples with any number of labels, some of them unknown."""

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
from tl.tasks.multi_label import _MultiLabel

NAN = float("nan")
LABELS = Classification("a", 3, multi_label=True)
LABELS_OF_2 = Classification("a", 2, multi_label=True)


def logits(rows: int = 6, classes: int = 3) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(0))


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


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_scores_do_not_depend_on_the_batches(size: int) -> None:
    """Logits of a small batch may all lie between 0 and 1, as probabilities do."""
    output = torch.tensor([[0.9, -3.0], [0.1, 0.2], [0.8, 0.7], [-1.0, 0.3], [0.5, 0.6], [2.0, 0]])
    target = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0], [0, 1], [1, 0]])
    for score, wanted in zip(LABELS_OF_2.scores().values(), (23 / 24, 45 / 56), strict=True):
        for first in range(0, 6, size):
            rows = slice(first, first + size)
            LABELS_OF_2.observe(score, output[rows], target[rows])
        assert float(score.compute()) == pytest.approx(wanted)


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


def test_right_labels_are_counted_where_they_are_known() -> None:
    task = Classification("a", 3, multi_label=True)
    output = torch.tensor([[2.0, -1.0, 3.0], [-1.0, 1.0, 0.5]])
    target = torch.tensor([[1, 0, 0], [1, -1, 1]])
    assert task.right_or_wrong
    assert task.right(output, target) == 3
    assert task.present(target) == 5
    plain = Classification("a", 3)
    assert plain.right(output, torch.tensor([2, -1])) == 1


def test_several_labels_are_one_kind_with_one_class() -> None:
    assert type(LABELS) is _MultiLabel
    assert LABELS.record()["kind"] == "classification"
    assert type(LABELS.read_from("x")) is _MultiLabel
