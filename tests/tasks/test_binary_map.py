from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_f1_score,
    binary_jaccard_index,
)

from tl.tasks import BinaryMap, as_task


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(3, 1, 5, 6, generator=generator)
    target = torch.randint(-1, 2, (3, 1, 5, 6), generator=generator).float()
    target[1] = -1
    return output, target


def test_scores_are_those_of_torchmetrics_over_known_pixels() -> None:
    task, (output, target) = BinaryMap("edges"), batch()
    known = target >= 0
    p, t = output[known].sigmoid(), target[known].long()
    wanted = {
        "f1": binary_f1_score(p, t),
        "iou": binary_jaccard_index(p, t),
        "acc": binary_accuracy(p, t),
    }
    for name, score in task.scores().items():
        for rows in (slice(0, 1), slice(1, None)):
            task.observe(score, output[rows], target[rows])
        torch.testing.assert_close(score.compute(), wanted[name])
    torch.testing.assert_close(task.tally(output, target)[0] / task.present(target), wanted["acc"])


def test_loss_is_the_mean_over_known_pixels_and_zero_without_any() -> None:
    task, (output, target) = BinaryMap("edges", pos_weight=3.0), batch()
    output.requires_grad_()
    known = target >= 0
    wanted = functional.binary_cross_entropy_with_logits(
        output[known], target[known], pos_weight=torch.tensor(3.0)
    )
    torch.testing.assert_close(task.loss(output, target), wanted)
    found = task.loss(output, torch.full_like(target, -1))
    found.backward()  # type: ignore[no-untyped-call]
    assert found == 0
    assert output.grad is not None
    assert output.grad.eq(0).all()


def test_targets_are_zeros_and_ones() -> None:
    task = BinaryMap("edges")
    found = task.settle(torch.tensor([[[0, 1, -1]]]))
    assert found.tolist() == [[[[0.0, 1.0, -1.0]]]]
    with pytest.raises(ValueError, match="neither 0 nor 1 for sample 0 of the batch"):
        task.settle(torch.tensor([[[0, 255]]]))


def test_a_checkpoint_keeps_it() -> None:
    task = BinaryMap("edges", pos_weight=19.0)
    assert as_task(task.record()) == task
    assert task.cells(torch.tensor([[[[0.2, 0.7]]]]), None) == [{"share": "0.5000"}]
    with pytest.raises(ValueError, match="positive"):
        BinaryMap("edges", pos_weight=0)
