from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tl import Task
from tl.modules.batch import MISSING
from tl.modules.evaluation import Evaluation


def alone(values: Tensor, reduce_op: str) -> Tensor:
    assert reduce_op == "sum"
    return values


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation({"a": Task("a", 3), "b": Task("b", 2)})


def test_means_are_over_labelled_samples(evaluation: Evaluation) -> None:
    logits = torch.eye(3)[[0, 1, 2, 0]]
    evaluation.add("val", "a", torch.tensor(2.0), logits, torch.tensor([0, 1, 0, MISSING]))
    evaluation.add("val", "a", torch.tensor(6.0), logits[:1], torch.tensor([1]))
    losses, accuracies = evaluation.results("val", alone)
    assert losses["a"].item() == pytest.approx((3 * 2.0 + 6.0) / 4)
    assert accuracies["a"].item() == pytest.approx(2 / 4)


def test_sets_are_apart_and_begin_anew(evaluation: Evaluation) -> None:
    evaluation.add("val", "b", torch.tensor(1.0), torch.eye(2), torch.tensor([0, 1]))
    assert evaluation.results("test", alone) == ({}, {})
    assert set(evaluation.results("val", alone)[0]) == {"b"}
    assert evaluation.results("val", alone) == ({}, {})


def test_a_task_without_any_label_has_no_result_and_a_diverged_one_has(
    evaluation: Evaluation,
) -> None:
    nothing = torch.tensor([MISSING, MISSING])
    evaluation.add("val", "b", torch.tensor(0.0), torch.eye(2), nothing)
    nan = torch.tensor(torch.nan)
    evaluation.add("val", "a", nan, torch.eye(3), torch.tensor([0, 1, 2]))
    losses, _ = evaluation.results("val", alone)
    assert set(losses) == {"a"}
    assert losses["a"].isnan()
