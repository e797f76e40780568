from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch.nn import functional
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score

from tl import Regression
from tl.tasks.pictures import View
from tl.tasks.regression import R2, NumberPictures

NAN = float("nan")


def numbers(outputs: int, seed: int = 0) -> torch.Tensor:
    return 10 + torch.randn(8, outputs, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [
        ("mse", functional.mse_loss),
        ("l1", functional.l1_loss),
        ("huber", functional.huber_loss),
    ],
)
def test_losses_are_means_over_the_known_numbers(loss: Any, wanted: Any) -> None:
    task = Regression("a", 2, loss=loss)
    output, target = numbers(2).requires_grad_(), numbers(2, 1)
    target[0, 0] = target[3] = NAN
    known = ~target.isnan()
    found = task.loss(output, task.settle(target))
    torch.testing.assert_close(found, wanted(output[known], target[known]))
    found.backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert not output.grad[~known].any()
    assert output.grad[known].all()
    assert task.present(target) == known.sum()
    assert task.loss(output, torch.full((8, 2), NAN)) == 0


@pytest.mark.parametrize("outputs", [1, 3])
def test_scores_are_those_of_torchmetrics(outputs: int) -> None:
    task = Regression("a", outputs)
    output, target = numbers(outputs), numbers(outputs, 1)
    found = {}
    for name, score in task.scores().items():
        for rows in (slice(0, 3), slice(3, None)):
            task.observe(score, output[rows], target[rows])
        found[name] = score.compute()
    torch.testing.assert_close(found["mae"], mean_absolute_error(output, target))
    wanted = mean_squared_error(output, target, squared=False)
    torch.testing.assert_close(found["rmse"], wanted)
    exact = r2_score(output.double(), target.double())  # in float32 it is four digits
    torch.testing.assert_close(found["r2"], exact.float())


def test_missing_numbers_are_left_out_of_each_output_by_itself() -> None:
    task = Regression("a", 2)
    output, target = numbers(2), numbers(2, 1)
    target[:3, 1] = NAN
    scores = task.scores()
    for score in scores.values():
        task.observe(score, output, target)
    a, b = output.double(), target.double()
    alone = [r2_score(a[s, k], b[s, k]) for k, s in enumerate([slice(8), slice(3, 8)])]
    torch.testing.assert_close(scores["r2"].compute(), torch.stack(alone).mean().float())
    known = ~target.isnan()
    wanted = mean_absolute_error(output[known], target[known])
    torch.testing.assert_close(scores["mae"].compute(), wanted)
    torch.testing.assert_close(task.tally(output, target)[0] / known.sum(), wanted)


@pytest.mark.parametrize("rows", [1, 0])
def test_r2_needs_two_targets_that_differ(rows: int) -> None:
    score = R2(1)
    score.update(torch.ones(rows, 1), torch.full((rows, 1), 3.0))
    assert score.compute().isnan()


def test_equal_targets_have_no_r2_whatever_their_sums_round_to() -> None:
    for value in (3.7, 0.1, 1e6 / 3):
        for rows in range(2, 20):
            score = R2(2)
            target = torch.full((rows, 2), value)
            target[0, 1] += 1
            output = torch.where(torch.arange(rows).unsqueeze(1) == 0, target, target + 1)
            score.update(output, target)
            # the second output alone has an R2: its residual is rows - 1, its spread 1 - 1 / rows
            assert float(score.compute()) == pytest.approx(1 - rows, rel=1e-3), (value, rows)


@pytest.mark.parametrize(
    ("outputs", "given", "said"),
    [
        (1, torch.zeros(4, 2), r"of shape \(4, 2\); expected numbers of shape \(N, 1\), or \(N,\)"),
        (2, torch.zeros(4), r"of shape \(4,\); expected numbers of shape \(N, 2\), NaN if missing"),
        (1, torch.tensor([1.0, float("inf")]), "is infinite for sample 1 of the batch"),
        (1, [1.0], "are a list; expected numbers"),
    ],
)
def test_other_targets_are_one_line(outputs: int, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Regression("a", outputs).check(given)


def test_whole_numbers_are_numbers_and_what_is_predicted_is_written() -> None:
    task = Regression("a", 2)
    assert task.settle(torch.tensor([[1, 2]])).tolist() == [[1.0, 2.0]]
    assert task.cells(torch.tensor([[0.123456789, -2.0]]), None) == [{"value": "0.123457; -2"}]
    assert Regression("a").settle(torch.tensor([1, 2])).shape == (2, 1)


@pytest.mark.parametrize("settings", [{"outputs": 0}, {"loss": "mean"}])
def test_arguments_are_checked(settings: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 1 output, got 0|one of mse, l1, huber, got"):
        Regression("a", **settings)


def points(figure: Figure) -> Any:
    """Return the points of the scatter plot of the first output ``(N, 2)``: truth, prediction."""
    return np.asarray(figure.axes[0].collections[0].get_offsets())


def test_numbers_show_predictions_against_the_truth_and_the_largest_errors() -> None:
    pictures = NumberPictures(1)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 2, 2)
    output = torch.tensor([[1.0, 0.0], [0.0, 5.0], [2.0, 2.0], [3.0, 3.0]])
    truth = torch.tensor([[1.0, 0.5], [0.0, NAN], [NAN, NAN], [3.0, 3.0]])
    pictures.add(images, output, truth)
    figures = pictures.figures(View("title"))
    assert list(figures) == ["scatter", "mistakes"]
    figures["scatter"].savefig(io.BytesIO(), format="png")
    assert sorted(points(figures["scatter"])[:, 0].tolist()) == [0, 1, 3]
    assert figures["mistakes"].texts[1].get_text() == "1; 0.5\n→ 1; 0"


def test_many_points_are_a_random_part_and_no_random_number_is_taken_from_training() -> None:
    before = torch.get_rng_state()
    pictures = NumberPictures(2)
    for begin in range(0, 6000, 1000):
        numbers = torch.arange(begin, begin + 1000.0)[:, None]
        pictures.add(None, numbers, numbers)
    shown = points(pictures.figures(View("title"))["scatter"])
    assert len(shown) == 2000
    assert 2700 < shown[:, 0].mean() < 3300
    assert torch.equal(torch.get_rng_state(), before)
