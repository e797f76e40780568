from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torchjd.scalarization import UW

from tl.balancing import Uncertainty


@pytest.mark.parametrize(("likelihood", "factor"), [("regression", 0.5), ("classification", 1.0)])
def test_is_least_where_the_noise_is_what_the_losses_say(likelihood: Any, factor: float) -> None:
    """``d/ds (a exp(-s) L + s / 2) = 0`` at ``exp(s) = 2 a L``."""
    losses = torch.tensor([0.3, 2.0])
    method = Uncertainty(2, likelihood)
    with torch.no_grad():
        method.log_var.copy_((2 * factor * losses).log())
    total = method(losses)
    [slope] = torch.autograd.grad(total, method.log_var)
    torch.testing.assert_close(slope, torch.zeros(2), atol=1e-6, rtol=0)
    wanted = sum(0.5 + 0.5 * math.log(2 * factor * loss) for loss in losses.tolist())
    assert total.item() == pytest.approx(wanted, rel=1e-6)


def test_regression_equals_torchjds() -> None:
    ours, theirs = Uncertainty(2, "regression", start=0.7), UW(2)
    torch.nn.init.constant_(theirs.log_var, 0.7)
    losses = torch.tensor([0.3, 2.0])
    assert ours(losses).item() == pytest.approx(theirs(losses).item())


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="regression, classification"):
        Uncertainty(2, "poisson")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 tasks, got 3"):
        Uncertainty(2)(torch.ones(3))
    with pytest.raises(ValueError, match="1 or more"):
        Uncertainty(0)
