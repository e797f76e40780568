"""How well features fit a target, without training: probe, H-score, LEEP."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tl.questions.logme import spectrum

#: Strengths of the ridge, times the mean squared singular value of the features.
STRENGTHS = tuple(10.0**power for power in range(-5, 4))


def ridge_left_out(features: Tensor, values: Tensor, groups: Tensor | None = None) -> Tensor:
    """Return what a ridge regression predicts for each sample that it has not seen.

    In closed form: with the hat matrix H of the fit on all samples (an intercept that is not
    penalised included), the residual of a sample that is left out is ``(y - H y) / (1 - h_ii)``
    (Allen, 1974), and of a group ``(I - H_gg)^-1 (y - H y)_g``. Of :data:`STRENGTHS` the one with
    the smallest squared error so counts.

    Args:
        features: ``(N, D)``.
        values: ``(N, T)``.
        groups: Group of each sample ``(N,)``, ascending: a whole group is left out at a time, such
            as the pixels of an image. By default each sample is its own.

    Returns:
        ``(N, T)`` float64.
    """
    features, values = features.double(), values.double()
    vectors, squares = spectrum(features - features.mean(0))
    centred = values - values.mean(0)
    inside = vectors.T @ centred
    best, smallest = centred * 0, torch.inf
    for strength in STRENGTHS:
        ratio = squares / (squares + strength * squares.mean())
        residual = centred - vectors @ (ratio[:, None] * inside)
        left_out = _left_out(vectors, ratio, residual, groups)
        error = float(left_out.square().sum())
        if error < smallest:
            best, smallest = values - left_out, error
    return best


def _left_out(vectors: Tensor, ratio: Tensor, residual: Tensor, groups: Tensor | None) -> Tensor:
    """Return the residuals of samples, or groups of them, that are left out of the fit."""
    count = len(vectors)
    if groups is None:
        own = 1 / count + (vectors.square() * ratio).sum(1)
        return residual / (1 - own).clamp(min=1e-9)[:, None]
    found = residual.clone()
    sizes: list[int] = torch.unique_consecutive(groups, return_counts=True)[1].tolist()
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        hat = 1 / count + (vectors[part] * ratio) @ vectors[part].T
        system = torch.eye(size, dtype=hat.dtype) * (1 + 1e-9) - hat
        found[part] = torch.linalg.solve(system, residual[part])
        start += size
    return found


def shrinkage(features: Tensor) -> float:
    """Return the share of a multiple of the identity in the covariance of Ledoit & Wolf (2004).

    Args:
        features: ``(N, D)``, centred.
    """
    count, size = features.shape
    covariance = features.T @ features / count
    mean = covariance.diagonal().mean()
    distance = covariance.square().sum() - size * mean**2
    lengths = features.square().sum(1)
    spread = lengths.square().sum() / count - covariance.square().sum()
    if not float(distance) > 0:
        return 1.0
    return float((spread / count / distance).clamp(0, 1))


def h_score(features: Tensor, labels: Tensor) -> float:
    """Return the regularised H-score.

    ``tr(C^-1 (1 - a) cov(E[f | y]))`` with the shrunk covariance
    ``C = (1 - a) cov(f) + a tr(cov(f)) / D I`` (Ibrahim et al., 2021, arXiv:2110.06893, equation
    7). Without the shrinkage it is the number of classes minus one for any features, once there are
    more of them than samples.

    Args:
        features: ``(N, D)``.
        labels: Classes ``(N,)``; one without samples does not count.
    """
    centred = features.double() - features.double().mean(0)
    share = shrinkage(centred)
    count, size = centred.shape
    _, index = torch.unique(labels, return_inverse=True)
    one_hot = functional.one_hot(index).double()
    means = one_hot.T @ centred / one_hot.sum(0)[:, None]
    between = (means * one_hot.sum(0)[:, None]).T @ means / count
    covariance = centred.T @ centred / count
    floor = covariance.diagonal().mean().clamp(min=1e-300)
    identity = torch.eye(size, dtype=centred.dtype)
    shrunk = (1 - share) * covariance + max(share, 1e-12) * floor * identity
    return float((1 - share) * torch.linalg.solve(shrunk, between).trace())


def leep(logits: Tensor, labels: Tensor) -> float:
    """Return the log expected empirical prediction; at most 0, higher is better.

    ``mean log sum_z P(y | z) theta_z`` with theta the source's probabilities and ``P(y | z)`` their
    empirical conditional (Nguyen et al., 2020, arXiv:2002.12462, equation 2). A source class that
    is never predicted has no part in it.

    Args:
        logits: Outputs of the source's head ``(N, Z)``.
        labels: Target classes ``(N,)``; one without samples does not count.
    """
    theta = logits.double().softmax(1)
    _, index = torch.unique(labels, return_inverse=True)
    joint = functional.one_hot(index).double().T @ theta  # (Y, Z)
    conditional = joint / joint.sum(0).clamp(min=1e-300)
    expected = (theta * conditional[index]).sum(1)
    return float(expected.clamp(min=1e-300, max=1.0).log().mean())
