from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tl.questions.logme import evidence, logme, spectrum


def problem(count: int, size: int, signal: float = 1.0) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(0)
    features = torch.randn(count, size, generator=drawn, dtype=torch.float64)
    weights = torch.randn(size, 3, generator=drawn, dtype=torch.float64) / size**0.5
    noise = torch.randn(count, 3, generator=drawn, dtype=torch.float64)
    return features, signal * features @ weights + 0.5 * noise


def dense(features: Tensor, y: Tensor, alpha: float, beta: float) -> float:
    """Log N(y | 0, I / beta + F F' / alpha) by direct inversion, per sample."""
    count = len(y)
    covariance = torch.eye(count, dtype=y.dtype) / beta + features @ features.T / alpha
    quadratic = y @ torch.linalg.inv(covariance) @ y
    log_det = torch.linalg.slogdet(covariance).logabsdet
    return float(-(quadratic + log_det + count * math.log(2 * math.pi)) / (2 * count))


@pytest.mark.parametrize(("count", "size"), [(40, 6), (15, 30)])
def test_it_is_the_maximum_of_the_evidence_by_direct_inversion(count: int, size: int) -> None:
    features, values = problem(count, size)
    found = evidence(features, values)
    grid = [10 ** (power / 8) for power in range(-32, 33)]
    for column in range(3):
        y = values[:, column]
        # `ratio` = alpha / beta fixes the best beta: y' K^-1 y / N = 1 / beta
        best = -math.inf
        for ratio in grid:
            kernel = torch.eye(count, dtype=y.dtype) + features @ features.T / ratio
            beta = count / float(y @ torch.linalg.inv(kernel) @ y)
            best = max(best, dense(features, y, ratio * beta, beta))
        assert float(found[column]) >= best - 1e-9
        assert float(found[column]) == pytest.approx(best, abs=2e-3)


def test_rotation_and_scale_change_nothing() -> None:
    features, values = problem(40, 6)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    torch.testing.assert_close(evidence(30 * features @ turn, values), evidence(features, values))


def test_signal_is_above_noise_and_float32_agrees() -> None:
    features, values = problem(200, 10, signal=2.0)
    noise = torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    assert logme(features, values) > logme(noise, values) + 0.3
    assert logme(features.float(), values.float()) == pytest.approx(logme(features, values), 1e-4)


def test_an_absent_class_does_not_count() -> None:
    features, _ = problem(30, 5)
    labels = torch.arange(30) % 3
    three, five = functional.one_hot(labels, 3), functional.one_hot(labels, 5)
    assert logme(features, five.double()) == logme(features, three.double())
    assert math.isnan(logme(features, torch.ones(30, 1)))


@pytest.mark.parametrize("size", [3, 60])
def test_extremes_are_finite(size: int) -> None:
    features, _ = problem(20, size)
    exact = features[:, :2] * torch.tensor([1.0, -2.0])  # a perfect fit
    pure = torch.randn(20, 2, generator=torch.Generator().manual_seed(2))
    same = torch.ones(20, size)
    for values in (exact, pure):
        assert evidence(features, values).isfinite().all()
        assert evidence(same, values).isfinite().all()
        assert evidence(same * 0, values).isfinite().all()


def test_the_spectrum_is_that_of_the_singular_values() -> None:
    for shape in ((12, 5), (5, 12)):
        features = torch.randn(*shape, dtype=torch.float64)
        vectors, squares = spectrum(features)
        wanted = torch.linalg.svd(features, full_matrices=False)
        torch.testing.assert_close(squares.sqrt().flip(0), wanted.S)
        torch.testing.assert_close(vectors @ vectors.T, wanted.U @ wanted.U.T)
