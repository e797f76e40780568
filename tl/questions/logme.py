"""LogME: the evidence of a linear model on features, per sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROUNDS = 200
_LARGEST = 1e12  # of a precision, relative to its scale: a perfect fit has none


def spectrum(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return left singular vectors ``(N, r)`` and squared singular values ``(r,)``, the large ones.

    They come from the smaller of the two Gram matrices, so that thousands of features of a few
    images cost no more than the images.

    Args:
        features: ``(N, D)`` float64.
    """
    wide = features.shape[1] > features.shape[0]
    gram = features @ features.T if wide else features.T @ features
    squares, vectors = torch.linalg.eigh(gram)
    kept = squares > squares[-1].clamp(min=0) * max(features.shape) * torch.finfo(gram.dtype).eps
    squares, vectors = squares[kept], vectors[:, kept]
    return (vectors if wide else features @ vectors / squares.sqrt()), squares


def evidence(features: Tensor, values: Tensor) -> Tensor:
    """Return the maximum log evidence per sample of each column of values.

    For ``y = F w + noise`` with ``w ~ N(0, I / alpha)`` and noise ``N(0, I / beta)``, ``log p(y)``
    is maximised over alpha and beta by MacKay's fixed point (You et al., 2021, arXiv:2102.11005,
    section 4.2): ``gamma = sum beta s^2 / (alpha + beta s^2)``, ``alpha = gamma / |m|^2``,
    ``beta = (N - gamma) / |y - F m|^2``, here until it changes no more. Rotating or scaling all
    features changes nothing.

    Args:
        features: ``(N, D)``; there may be more features than samples.
        values: ``(N, T)``, such as one-hot classes.

    Returns:
        ``(T,)``, in nats per sample.
    """
    features, values = features.double(), values.double()
    count, size = features.shape
    features = features / features.square().mean().sqrt().clamp(min=1e-300)
    vectors, squares = spectrum(features)
    inside = vectors.T @ values  # (r, T)
    whole = values.square().sum(0)
    outside = (whole - inside.square().sum(0)).clamp(min=0)
    floor = whole.clamp(min=1e-300) / _LARGEST
    squares = squares[:, None]
    alpha = torch.ones_like(whole)
    beta = count / whole.clamp(min=1e-300)
    for _ in range(_ROUNDS):
        before = alpha / beta
        ratio = squares / (before + squares)
        gamma = ratio.sum(0)
        mean = ratio * inside / squares.sqrt()  # of the weights, in the singular basis
        residual = (inside * (1 - ratio)).square().sum(0) + outside
        alpha = gamma / mean.square().sum(0).clamp(min=1e-300)
        beta = (count - gamma).clamp(min=1e-9) / torch.maximum(residual, floor)
        alpha = alpha.clamp(beta / _LARGEST, beta * _LARGEST)  # without features it is free
        if bool(((alpha / beta / before).log().abs() < 1e-6).all()):  # noqa: PLR2004 - converged
            break
    ratio = squares / (alpha / beta + squares)
    mean = ratio * inside / squares.sqrt()
    residual = (inside * (1 - ratio)).square().sum(0) + outside
    log_det = (alpha + beta * squares).log().sum(0) + (size - len(squares)) * alpha.log()
    found: Tensor = (
        size * alpha.log()
        + count * (beta / (2 * math.pi)).log()
        - beta * residual
        - alpha * mean.square().sum(0)
        - log_det
    ) / (2 * count)
    return found


def logme(features: Tensor, values: Tensor) -> float:
    """Return the mean of :func:`evidence` over the columns that vary.

    A class without a sample has no evidence and does not count.

    Args:
        features: ``(N, D)``.
        values: ``(N, T)``: one-hot classes, or numbers, which are standardised first.
    """
    varies = values.max(0).values > values.min(0).values
    if not bool(varies.any()):
        return math.nan
    return float(evidence(features, values[:, varies]).mean())
