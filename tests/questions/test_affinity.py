from __future__ import annotations

import math

import pytest
import torch

from tl.questions.affinity import PairMeans, cosines, first_order, rank_correlation


def test_first_order_and_cosines_by_hand() -> None:
    rows = torch.tensor([[3.0, 4.0], [4.0, 3.0], [0.0, 0.0]])
    gram = rows @ rows.T
    found = first_order(gram, torch.tensor([2.0, 4.0, 0.0]), 0.1)
    assert found[0, 1] == pytest.approx(0.1 * 24 / 4)
    assert found[1, 0] == pytest.approx(0.1 * 24 / 2)
    assert found[:, 2].isnan().all()
    assert found[2].isnan().all()
    assert cosines(gram)[0, 1] == pytest.approx(0.96)
    assert math.isnan(cosines(gram)[0, 2])


def test_a_task_that_a_batch_lacks_counts_neither_as_row_nor_as_column() -> None:
    means = PairMeans(["a", "b"])
    means.add(first_order(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.ones(2), 0.1))
    absent = torch.tensor([math.nan, 1.0])
    means.add(first_order(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), absent, 0.1))
    torch.testing.assert_close(means.mean(), torch.tensor([[0.1, 0.05], [0.05, 0.1]]).double())
    assert means.count.sum(0).tolist() == [[1, 1], [1, 2]]


def test_cosines_of_what_overflows_are_not_known() -> None:
    rows = torch.tensor([[1e20, 0.0], [1.0, 1.0], [torch.inf, 0.0]])
    found = cosines(rows @ rows.T)  # in float32 the square of the first overflows
    assert found.isnan().tolist() == [[True] * 3, [True, False, True], [True] * 3]


def test_means_errors_and_halves() -> None:
    drawn = torch.randn(9, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    drawn[4, 0, 1] = torch.nan
    means = PairMeans(["a", "b", "c"])
    for values in drawn:
        means.add(values)
    torch.testing.assert_close(means.mean(), drawn.nanmean(0))
    torch.testing.assert_close(means.half(1), drawn[1::2].nanmean(0))
    known = drawn[:, 1, 2]
    assert float(means.error()[1, 2]) == pytest.approx(float(known.std() / 3))
    again = PairMeans.from_state(means.state())
    again.add(drawn[0])
    means.add(drawn[0])
    torch.testing.assert_close(again.mean(), means.mean())
    assert again.seen == 10


def test_reliability_is_high_for_signal_and_low_for_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(8, 8, generator=generator)
    signal, noise = PairMeans(list("abcdefgh")), PairMeans(list("abcdefgh"))
    for _ in range(20):
        drawn = torch.randn(8, 8, generator=generator)
        signal.add(truth + 0.3 * drawn)
        noise.add(drawn)
    assert signal.reliability() > 0.95
    assert noise.reliability() < 0.5
    assert math.isnan(PairMeans(["a", "b"]).reliability())


def test_rank_correlation_leaves_the_diagonal_out() -> None:
    one = torch.arange(9.0).view(3, 3)
    other = one.exp()
    other.fill_diagonal_(-5)
    assert rank_correlation(one, other) == pytest.approx(1)
    assert rank_correlation(one, -one) == pytest.approx(-1)
