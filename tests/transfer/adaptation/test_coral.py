from __future__ import annotations

import pytest
import torch

from tests.transfer.adaptation.domains import features, step
from tl.transfer.adaptation.coral import CORAL, coral


def test_the_definition() -> None:
    """Equations 1 to 3 of the paper, as they stand there."""
    source, target = features(1, 7).detach(), features(2, 5).detach()

    def covariance(data: torch.Tensor) -> torch.Tensor:
        n, ones = len(data), torch.ones(1, len(data))
        return (data.T @ data - (ones @ data).T @ (ones @ data) / n) / (n - 1)

    wanted = (covariance(source) - covariance(target)).square().sum() / (4 * 4**2)
    assert float(coral(source, target)) == pytest.approx(float(wanted), rel=1e-4)


def test_a_hand_worked_value() -> None:
    source, target = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [4.0]])
    assert float(coral(source, target)) == pytest.approx((2 - 8) ** 2 / 4)


def test_means_and_order_do_not_matter() -> None:
    source = features(1).detach()
    assert float(coral(source, source.flip(0) + 5)) == pytest.approx(0, abs=1e-9)


def test_one_sample_has_no_covariance() -> None:
    assert float(CORAL()(step({"clean": features(1, 1), "odd": features(2)})).detach()) == 0


def test_half_precision_is_summed_in_single() -> None:
    given: dict[str | None, torch.Tensor] = {
        "clean": features(1).bfloat16(),
        "odd": features(2).bfloat16(),
    }
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert CORAL()(step(given)).dtype == torch.float32
