from __future__ import annotations

from typing import Any

import pytest
import torch

from tl.tasks import Depth, as_task

NAN = float("nan")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = 1 + torch.rand(3, 1, 5, 6, generator=generator)
    output = target + 0.4 * torch.randn(3, 1, 5, 6, generator=generator)
    target[0, 0, :2] = NAN
    target[1] = NAN  # an image without any depth
    return output, target


def test_scores_are_over_all_pixels_of_the_split() -> None:
    task, (output, target) = Depth("a"), batch()
    p, t = output[~target.isnan()], target[~target.isnan()]
    wanted = {
        "abs": (p - t).abs().mean(),
        "rel": ((p - t).abs() / t).mean(),
        "rmse": ((p - t) ** 2).mean().sqrt(),
        "delta1": (torch.maximum(p / t, t / p) < 1.25).float().mean(),
    }
    assert (p > 0).all()
    for name, score in task.scores().items():
        for rows in (slice(0, 1), slice(1, None)):
            task.observe(score, output[rows], target[rows])
        torch.testing.assert_close(score.compute(), wanted[name])
    torch.testing.assert_close(task.tally(output, target)[0] / task.present(target), wanted["abs"])


def test_l1_and_berhu_against_their_formulas() -> None:
    output, target = batch()
    error = (output - target)[~target.isnan()].abs()
    torch.testing.assert_close(Depth("a").loss(output, target), error.mean())
    edge = error.max() / 5
    wanted = torch.stack([e if e <= edge else (e**2 + edge**2) / (2 * edge) for e in error])
    torch.testing.assert_close(Depth("a", "berhu").loss(output, target), wanted.mean())


def test_silog_does_not_see_half_of_the_scale_and_adds_up_over_batches() -> None:
    task, (output, target) = Depth("a", "silog"), batch()
    whole = task.loss(output, target) * task.present(target)
    parts = [task.loss(output[i : i + 1], target[i : i + 1]) for i in range(3)]
    counts = [task.present(target[i]) for i in range(3)]
    torch.testing.assert_close(whole, sum(p * n for p, n in zip(parts, counts, strict=True)))
    known = target.nan_to_num(1.0)
    shifted = known.log() + 0.3  # each depth too large by one factor
    torch.testing.assert_close(task.loss(shifted, known), torch.tensor(0.3**2 / 2))
    torch.testing.assert_close(task.answer(known.log()), known)


@pytest.mark.parametrize("loss", ["l1", "berhu", "silog"])
def test_no_depth_at_all_gives_a_loss_of_zero_with_a_gradient(loss: Any) -> None:
    output, target = batch()
    output.requires_grad_()
    found = Depth("a", loss).loss(output, torch.full_like(target, NAN))
    found.backward()  # type: ignore[no-untyped-call]
    assert found == 0
    assert output.grad is not None
    assert output.grad.eq(0).all()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (-1.0, "below 0 for sample 1"),
        (float("inf"), "infinite"),
        (0.0, "0, which is not a distance"),
    ],
)
def test_wrong_depths_are_named(value: float, said: str) -> None:
    target = torch.ones(2, 3, 3)
    target[1, 2, 1] = value
    with pytest.raises(ValueError, match=said):
        Depth("a").settle(target)
    assert Depth("a").settle(target.abs() + 1, checked=True).shape == (2, 1, 3, 3)


@pytest.mark.parametrize("loss", ["l1", "berhu", "silog"])
def test_outputs_count_from_the_start(loss: Any) -> None:
    output, target = batch()
    plain, from_start = Depth("a", loss), Depth("a", loss, start=2.5)
    shift = 2.5 if loss != "silog" else torch.tensor(2.5).log()
    torch.testing.assert_close(from_start.loss(output - shift, target), plain.loss(output, target))
    torch.testing.assert_close(from_start.answer(output - shift), plain.answer(output))
    torch.testing.assert_close(
        from_start.tally(output - shift, target)[0], plain.tally(output, target)[0]
    )
    assert from_start.answer(torch.zeros(1, 1, 1, 1)).item() == pytest.approx(2.5)
    assert as_task(from_start.record()) == from_start
    assert "start" not in plain.record()
    assert from_start.answers != plain.answers  # they cannot share a head
    with pytest.raises(ValueError, match="`start` of task 'a' must be a distance of 0 or more"):
        Depth("a", loss, start=-1.0)


def test_a_checkpoint_keeps_it_and_the_csv_has_means() -> None:
    task = Depth("a", "berhu", width=8)
    assert as_task(task.record()) == task
    assert task.cells(torch.full((1, 1, 2, 2), 2.5), None) == [{"mean_depth": "2.5"}]
    with pytest.raises(ValueError, match="one of l1, berhu, silog"):
        Depth("a", "l3")  # type: ignore[arg-type]


def test_inverse_depth_grows_where_depth_shrinks_and_is_kept_in_checkpoints() -> None:
    target, twice = torch.tensor([[[[2.0, NAN]]]]), torch.full((1, 1, 1, 1), 2.0)
    plain, inverse = Depth("a"), Depth("a", inverse=True)
    assert plain.enlarged(target, twice)[0, 0, 0, 0] == 1
    assert inverse.enlarged(target, twice)[0, 0, 0, 0] == 4
    assert "inverse" not in plain.record()
    assert as_task(inverse.record()) == inverse != plain
    assert plain.answers != inverse.answers  # so they share no head
