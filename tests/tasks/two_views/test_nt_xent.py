from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from tl.tasks import NTXent
from tl.tasks.two_views.nt_xent import nt_xent


def test_loss_is_equation_1_term_by_term() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(5, 3).double(), torch.randn(5, 3).double()
    every = [*first, *second]
    total = 0.0
    for i, anchor in enumerate(every):
        cosines = [float(functional.cosine_similarity(anchor, z, dim=0)) / 0.2 for z in every]
        others = sum(math.exp(c) for k, c in enumerate(cosines) if k != i)
        total += -math.log(math.exp(cosines[(i + 5) % 10]) / others)
    assert float(nt_xent(first, second, 0.2)) == pytest.approx(total / 10)


def test_loss_is_lightly_s() -> None:
    losses = pytest.importorskip("lightly.loss")
    torch.manual_seed(0)
    first, second = torch.randn(6, 4), torch.randn(6, 4)
    expected = losses.NTXentLoss(temperature=0.3)(first, second)
    assert torch.allclose(nt_xent(first, second, 0.3), expected, atol=1e-6)


def test_views_that_agree_cost_less() -> None:
    torch.manual_seed(0)
    first = torch.randn(16, 8)
    assert nt_xent(first, first) < nt_xent(first, torch.randn(16, 8))
    assert torch.allclose(nt_xent(first, first), nt_xent(3 * first, first))  # only directions count


def test_projector_has_one_hidden_layer_with_batch_norm() -> None:
    head = NTXent(hidden=7, size=5).head(4)
    assert [tuple(p.shape) for p in head.parameters()] == [(7, 4), (7,), (7,), (5, 7), (5,)]
    assert head(torch.randn(6, 4)).shape == (6, 5)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="`temperature` must be positive, got 0"):
        NTXent(temperature=0)
