from __future__ import annotations

import math

import pytest
import torch

from tl.questions.columns import columns_of
from tl.questions.features import Extracted
from tl.questions.samples import TensorSamples
from tl.questions.target import Target, target_of
from tl.tasks import Classification, Regression, Task

DRAWN = torch.Generator().manual_seed(0)
FEATURES = torch.randn(200, 5, generator=DRAWN)
TAGS = (FEATURES[:, :3] + 0.1 * torch.randn(200, 3, generator=DRAWN) > 0).float()


def target(task: Task, values: torch.Tensor) -> Target:
    return target_of(TensorSamples(torch.zeros(len(values), 1), {"": values}, [task]), task)


def tags(values: torch.Tensor) -> Target:
    """Labels, and one more that no sample has: it does not count."""
    values = torch.cat([values, torch.zeros(len(values), 1)], 1)
    return target(Classification("tags", values.shape[1], multi_label=True), values)


@pytest.mark.parametrize("name", ["knn", "probe", "logme"])
def test_partly_labelled_samples_are_scored_by_column_on_the_rows_that_are_known(name: str) -> None:
    given = TAGS.masked_fill(torch.rand(TAGS.shape, generator=DRAWN) < 0.3, math.nan)
    found = columns_of(Extracted(FEATURES), tags(given), 10)[name]
    apart = []
    for column in given.T:
        known = ~column.isnan()
        single = tags(column[known][:, None])
        apart.append(columns_of(Extracted(FEATURES[known]), single, 10)[name](None))
    assert found(None) == pytest.approx(sum(apart) / 3)
    rows = torch.arange(200)[~given.isnan().all(1)]
    assert found(torch.arange(len(rows))) == pytest.approx(found(None))


def test_a_label_that_a_resample_lacks_does_not_count() -> None:
    rare = torch.zeros(200, 1)
    rare[0] = 1
    both = columns_of(Extracted(FEATURES), tags(torch.cat([TAGS[:, :1], rare], 1)), 10)["knn"]
    alone = columns_of(Extracted(FEATURES), tags(TAGS[:, :1]), 10)["knn"]
    without = torch.arange(1, 200)
    assert both(without) == pytest.approx(alone(without))
    assert math.isnan(columns_of(Extracted(FEATURES), tags(rare), 10)["knn"](without))


def test_numbers_of_a_resample_in_which_one_is_not_known() -> None:
    values = TAGS[:, :2] + FEATURES[:, :2]
    values[:100, 0], values[100:, 1] = math.nan, math.nan
    found = columns_of(Extracted(FEATURES), target(Regression("level", 2), values), 10)["probe"]
    first, second = found(torch.arange(100, 200)), found(torch.arange(100))
    assert found(None) == pytest.approx((first + second) / 2)
