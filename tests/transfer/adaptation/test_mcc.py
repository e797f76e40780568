from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tests.transfer.adaptation.domains import features, step
from tl.tasks import Classification, Regression, Task
from tl.transfer.adaptation.mcc import MCC, class_confusion


def test_the_definition() -> None:
    """Equations 2 to 6 of the paper, by loops."""
    logits, temperature = features(0, 5, 3).detach(), 2.5
    answers = torch.softmax(logits / temperature, 1).tolist()
    entropies = [-sum(p * math.log(p) for p in row) for row in answers]
    certain = [1 + math.exp(-entropy) for entropy in entropies]
    weights = [5 * each / sum(certain) for each in certain]
    confusion = [
        [
            sum(w * row[i] * row[j] for w, row in zip(weights, answers, strict=True))
            for j in range(3)
        ]
        for i in range(3)
    ]
    wanted = sum(
        confusion[i][j] / sum(confusion[i]) for i in range(3) for j in range(3) if i != j
    ) / 3  # fmt: skip
    assert float(class_confusion(logits, temperature)) == pytest.approx(wanted, rel=1e-5)


def test_certain_answers_confuse_nothing_and_equal_ones_everything() -> None:
    certain = 100 * torch.eye(3).repeat(2, 1)
    assert float(class_confusion(certain, 2.5)) == pytest.approx(0, abs=1e-6)
    assert float(class_confusion(torch.zeros(4, 3), 2.5)) == pytest.approx(2 / 3)


def tasks(*given: Task) -> dict[str, Task]:
    odd = Classification("odd", 3, source="odd", shares="clean", trains=False)
    return {task.name: task for task in (*given, odd)}


CLEAN = Classification("clean", 3, source="clean")


def test_it_reads_the_head_on_unlabelled_samples() -> None:
    penalty, head = MCC(), nn.Linear(4, 3)
    penalty.check(tasks(CLEAN))
    odd = features(1)
    found = penalty(step({"clean": features(0), "odd": odd}, clean=head))
    assert torch.allclose(found, class_confusion(head(odd), 2.5))


def test_the_task_must_be_one_classification() -> None:
    two = tasks(CLEAN, Classification("b", 3, source="clean"))
    with pytest.raises(ValueError, match="set `task` to one of clean, b"):
        MCC().check(two)
    MCC(task="b").check(two)
    with pytest.raises(ValueError, match=r"them \(the run has none\), got 'odd'"):
        MCC(task="odd").check(
            {**tasks(Regression("c", source="clean")), "odd": Regression("odd", source="odd",
             shares="c", trains=False)}
        )  # fmt: skip
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`temperature` must be above 0 and .*, got {wrong}"):
            MCC(temperature=wrong)
