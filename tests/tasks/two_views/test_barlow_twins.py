from __future__ import annotations

import pytest
import torch

from tl.tasks import BarlowTwins
from tl.tasks.two_views.barlow_twins import barlow_twins


def test_loss_is_equations_1_and_2_term_by_term() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(7, 3).double(), torch.randn(7, 3).double()
    a, b = (z - z.mean(0) for z in (first, second))
    total = 0.0
    for i in range(3):
        for j in range(3):
            norm = a[:, i].square().sum().sqrt() * b[:, j].square().sum().sqrt()
            correlation = float((a[:, i] * b[:, j]).sum() / norm)
            total += (1 - correlation) ** 2 if i == j else 0.01 * correlation**2
    # the authors' batch norm adds 1e-5 to the variances
    assert float(barlow_twins(first, second, 0.01)) == pytest.approx(total, rel=1e-4)


def test_loss_is_lightly_s() -> None:
    losses = pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    first, second = torch.randn(8, 4), torch.randn(8, 4)
    expected = losses.BarlowTwinsLoss(lambda_param=0.02)(first, second)
    assert torch.allclose(barlow_twins(first, second, 0.02), expected, rtol=1e-5)


def test_loss_is_least_for_equal_views_of_uncorrelated_parts() -> None:
    outputs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(barlow_twins(outputs, outputs, 1.0)) == pytest.approx(0.0, abs=1e-8)
    assert torch.allclose(barlow_twins(outputs, 5 * outputs + 2), torch.zeros(()), atol=1e-8)
    same = outputs[:, :1].expand(-1, 2)  # both parts say the same
    assert float(barlow_twins(same, same, 1.0)) == pytest.approx(2.0, rel=1e-4)


def test_projector_has_two_hidden_layers_with_batch_norm() -> None:
    head = BarlowTwins(hidden=7, size=5).head(4)
    weights = [tuple(p.shape) for p in head.parameters() if p.ndim > 1]
    assert weights == [(7, 4), (7, 7), (5, 7)]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`weight` must be positive, got -1"):
        BarlowTwins(weight=-1)
