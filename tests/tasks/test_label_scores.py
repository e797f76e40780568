"""Scores of labels of which some are never known, or never there."""

from __future__ import annotations

import pytest
import torch
from torchmetrics import Metric
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score

from tl.tasks.class_targets import MISSING
from tl.tasks.multi_label import MeanAveragePrecision, MeanF1

KINDS = [
    (MeanAveragePrecision, MultilabelAveragePrecision),
    (MeanF1, MultilabelF1Score),
]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 2, (40, 4), generator=generator)
    target[::7, 1] = MISSING
    return torch.randn(40, 4, generator=generator), target


@pytest.mark.parametrize(("ours", "theirs"), KINDS)
def test_with_all_labels_known_they_are_torchmetrics_s(ours: type, theirs: type) -> None:
    found, wanted = ours(4), theirs(4, average="macro", ignore_index=MISSING)
    for part in zip(*(each.chunk(4) for each in batch()), strict=True):
        found.update(*part)
        wanted.update(*part)
    assert torch.equal(found.compute(), wanted.compute())


@pytest.mark.parametrize(("ours", "theirs"), KINDS)
@pytest.mark.parametrize("left", [[0], [0, 2, 3]])
def test_a_label_that_is_never_known_is_left_out(ours: type, theirs: type, left: list[int]) -> None:
    output, target = batch()
    target[:, [n for n in range(4) if n not in left]] = MISSING
    found = ours(4)
    found.update(output, target)
    wanted = theirs(4, average="none", ignore_index=MISSING)
    wanted.update(*batch())  # each label by itself
    torch.testing.assert_close(found.compute(), wanted.compute()[left].mean())


def scored(score: Metric, chances: list[list[float]], target: list[list[int]]) -> float:
    score.update(torch.tensor(chances), torch.tensor(target))
    return float(score.compute())


def test_a_label_without_a_positive_has_no_average_precision() -> None:
    chances, target = [[0.9, 0.2, 0.4], [0.1, 0.7, 0.3]], [[1, 0, 0], [0, 1, 0]]
    assert scored(MeanAveragePrecision(3), chances, target) == 1.0
    assert scored(MeanF1(3), chances, target) == 1.0


def test_a_label_that_is_given_wrongly_counts_in_f1() -> None:
    chances, target = [[0.9, 0.2, 0.6], [0.1, 0.7, 0.3]], [[1, 0, 0], [0, 1, 0]]
    assert scored(MeanF1(3), chances, target) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("ours", "theirs"), KINDS)
def test_without_any_label_they_are_nan(ours: type, theirs: type) -> None:
    del theirs
    found = ours(3)
    found.update(torch.zeros(5, 3), torch.full((5, 3), MISSING))
    assert found.compute().isnan()
