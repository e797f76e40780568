from __future__ import annotations

import pytest
import torch

from tl.tasks import BarlowTwins, NTXent, TwoViews, VICReg, as_task

EVERY: list[TwoViews] = [NTXent(), BarlowTwins(), VICReg()]


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.kind)
def test_task_survives_in_plain_types(task: TwoViews) -> None:
    assert as_task(task.record()) == task
    assert all(isinstance(v, str | int | float | None) for v in task.record().values())


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.kind)
def test_labels_are_never_read(task: TwoViews) -> None:
    labels = torch.tensor([10**9, -5, 3])  # would fail in any other task
    seen = task.settle(labels)
    assert seen.tolist() == [True, True, True]
    assert int(task.present(seen)) == 3
    outputs = torch.randn(6, 8)
    assert torch.equal(task.loss(outputs, seen), task.loss(outputs, task.settle(labels + 1)))


def test_a_batch_of_one_is_refused_in_training_and_left_out_of_evaluations() -> None:
    task, one = NTXent("photos"), torch.ones(1, dtype=torch.bool)
    outputs = torch.randn(2, 8)
    with pytest.raises(ValueError, match=r"'photos' compares .* this batch has one; set"):
        task.loss(outputs.requires_grad_(), one)
    assert float(task.loss(outputs.detach(), one)) == 0
    assert int(task.present(one)) == 0


def test_one_output_per_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two views .* got 4 outputs for 4 images"):
        NTXent().loss(torch.randn(4, 8), torch.ones(4, dtype=torch.bool))


def test_spread_tells_collapse() -> None:
    task, images = NTXent(size=16), torch.ones(500, dtype=torch.bool)
    torch.manual_seed(0)
    for outputs, expected in (
        (torch.randn(1000, 16), 1.0),
        (torch.ones(1000, 16), 0.0),
    ):
        metric = task.scores()["spread"]
        task.observe(metric, outputs, images)
        assert float(metric.compute()) == pytest.approx(expected, abs=0.03)
    assert task.directions["spread"] == "max"


def test_loss_is_in_full_precision_under_autocast() -> None:
    task, images = NTXent(), torch.ones(4, dtype=torch.bool)
    outputs = torch.randn(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = task.loss(outputs, images)
    assert torch.equal(found, task.loss(outputs, images))


def test_it_predicts_nothing() -> None:
    with pytest.raises(ValueError, match=r"self-supervised and predicts nothing; fine-tune"):
        NTXent().answer(torch.randn(2, 8))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`passes` must be 'one' or 'two', got 'three'"):
        NTXent(passes="three")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`hidden` must be 1 or more, got 0"):
        BarlowTwins(hidden=0)
