from __future__ import annotations

import math

import pytest
import torch

from tl.tasks import VICReg
from tl.tasks.two_views.vicreg import vicreg


def test_loss_is_equations_1_to_6_term_by_term() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(6, 3).double() / 3, torch.randn(6, 3).double()
    same = sum(float((a - b) ** 2) for a, b in zip(first.flatten(), second.flatten(), strict=True))
    hinges, squares = 0.0, 0.0
    for outputs in (first, second):
        centred = [[float(x - outputs[:, j].mean()) for x in outputs[:, j]] for j in range(3)]
        for i in range(3):
            for j in range(3):
                covariance = sum(a * b for a, b in zip(centred[i], centred[j], strict=True)) / 5
                if i == j:
                    hinges += max(0.0, 1 - math.sqrt(covariance + 1e-4)) / 3
                else:
                    squares += covariance**2 / 3
    expected = 4 * same / 18 + 5 * hinges / 2 + 6 * squares
    assert float(vicreg(first, second, 4, 5, 6)) == pytest.approx(expected)


def test_loss_is_lightly_s() -> None:
    losses = pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    first, second = torch.randn(8, 4) / 2, torch.randn(8, 4)
    expected = losses.VICRegLoss(lambda_param=3, mu_param=4, nu_param=5)(first, second)
    assert torch.allclose(vicreg(first, second, 3, 4, 5), expected, rtol=1e-5)


def test_collapsed_outputs_have_a_gradient_away_from_collapse() -> None:
    torch.manual_seed(0)
    outputs = (0.01 * torch.randn(8, 4)).requires_grad_()
    loss = vicreg(outputs, outputs)
    (gradient,) = torch.autograd.grad(loss, outputs)
    moved = (outputs - gradient).detach()
    assert vicreg(moved, moved) < loss


def test_projector_has_two_hidden_layers_with_batch_norm() -> None:
    head = VICReg(hidden=7, size=5).head(4)
    weights = [tuple(p.shape) for p in head.parameters() if p.ndim > 1]
    assert weights == [(7, 4), (7, 7), (5, 7)]


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`covariance` must be positive, got 0"):
        VICReg(covariance=0)
