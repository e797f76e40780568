from __future__ import annotations

import math

import pytest
import torch

from tl.tasks import BYOL, as_task
from tl.tasks.two_views.byol import byol


def test_loss_is_the_distance_of_unit_vectors() -> None:
    torch.manual_seed(0)
    q, z = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    total = 0.0
    for a, b in zip(q, z, strict=True):
        total += float((a / a.norm() - b / b.norm()).square().sum())
    assert float(byol(q, z)) == pytest.approx(total / 5)


def test_loss_is_lightly_s_up_to_scale() -> None:
    losses = pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    q, z = torch.randn(6, 4), torch.randn(6, 4)
    assert torch.allclose(byol(q, z), 2 + 2 * losses.NegativeCosineSimilarity()(q, z))


def test_each_view_predicts_the_other_and_targets_get_no_gradient() -> None:
    torch.manual_seed(0)
    output = torch.randn(8, 3, requires_grad=True)
    target = torch.randn(8, 3, requires_grad=True)
    loss = BYOL().loss(output, target)
    expected = byol(output[:4], target[4:]) + byol(output[4:], target[:4])
    assert torch.equal(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert target.grad is None


def test_momentum_rises_from_its_start_to_one() -> None:
    task = BYOL(momentum=0.9)
    assert task.momentum_at(0) == pytest.approx(0.9)
    assert task.momentum_at(0.25) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)
    assert task.momentum_at(1) == pytest.approx(1)


def test_an_image_alone_is_evaluated_with_views_in_two_passes() -> None:
    head = BYOL("a", hidden=4, size=2, passes="two").head(3)
    views = torch.randn(2, 3)
    with pytest.raises(ValueError, match="this batch has one"):
        head(views)
    head.eval()
    assert head(views).shape == (2, 2)


def test_predictor_has_no_twin() -> None:
    head = BYOL(hidden=7, size=5).head(4)
    part = BYOL().twin(head)
    assert part.state_dict().keys() == head.get_submodule("net").state_dict().keys()
    assert any(name.startswith("predictor.") for name in head.state_dict())


def test_task_counts_images_and_survives_in_plain_types() -> None:
    task = BYOL(momentum=0.5)
    assert as_task(task.record()) == task
    assert int(task.present(task.truth(task.settle(torch.randn(6, 4))))) == 3
    with pytest.raises(ValueError, match=r"this batch has one; set `batch_size` to 2 or more"):
        task.loss(torch.randn(2, 4, requires_grad=True), torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"`momentum` must be from 0 to 1, got 1\.5"):
        BYOL(momentum=1.5)
