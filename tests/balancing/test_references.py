"""Every overlay's first step against its paper's formula, on two known gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

Vector = Any
SEED = 5
LOSSES = np.array([2.0, 0.5])
ROWS = np.array([[1.0, 0.0, 0.5], [-2.0, 1.0, 0.25]])  # in conflict, of different norms


def weighted(*weights: float) -> Vector:
    return np.array(weights) @ ROWS


def drawn(make: Callable[[], Tensor]) -> Vector:
    torch.manual_seed(SEED)
    return make().numpy().astype(float)


def slopes(function: Callable[[Vector], float]) -> Vector:
    """Derivatives by the losses, from differences."""
    small = 1e-6 * np.eye(2)
    return np.array([function(LOSSES + e) - function(LOSSES - e) for e in small]) / 2e-6


def without(vector: Vector, other: Vector) -> Vector:
    """Take out what conflicts with another vector."""
    return vector - min(0.0, vector @ other) / (other @ other) * other


def famo() -> Vector:
    share = 0.5 / LOSSES
    return weighted(*(share / share.sum()))


def pbi() -> Vector:
    direction = np.array([0.5, 0.5]) / math.hypot(0.5, 0.5)

    def value(losses: Vector) -> float:
        along = losses @ direction
        return float(along + 5 * np.linalg.norm(losses - along * direction))

    return slopes(value) @ ROWS


def cosmos() -> Vector:
    preferences = np.array([0.5, 0.5])

    def value(losses: Vector) -> float:
        norms = np.linalg.norm(losses) * np.linalg.norm(preferences)
        return float(preferences @ losses - losses @ preferences / norms)

    return slopes(value) @ ROWS


def stch() -> Vector:
    return weighted(*(1 / LOSSES))  # the warm-up: the sum of logarithms


def db_mtl() -> Vector:
    # the first running mean is (1 - 0.9) of the gradient; both are scaled to the longest
    means = 0.1 * ROWS / LOSSES[:, None]
    norms = np.linalg.norm(means, axis=1)
    return (norms.max() * means / norms[:, None]).sum(0)


def aligned_mtl() -> Vector:
    left, singular, right = np.linalg.svd(ROWS, full_matrices=False)
    return np.array([0.5, 0.5]) @ (singular.min() * left @ right)


def cagrad() -> Vector:
    """Algorithm 1 by trying all weights."""
    mean = ROWS.mean(0)
    root = 0.4 * np.linalg.norm(mean)
    tried = [np.array([w, 1 - w]) @ ROWS for w in np.linspace(0, 1, 20001)]
    worst = min(tried, key=lambda g: float(g @ mean + root * np.linalg.norm(g)))
    return mean + root / np.linalg.norm(worst) * worst


def conflict_free() -> Vector:
    units = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    direction = units.sum(0) / np.linalg.norm(units.sum(0))  # two units: the bisector
    return (ROWS @ direction).sum() * direction


def dual_proj() -> Vector:
    return without(ROWS.mean(0), ROWS[0])  # the mean conflicts with the first only


def bargain(alpha: float = 1.0) -> Vector:
    """``G G^T a = a^(-1 / alpha)`` by Newton's method."""
    gramian, a = ROWS @ ROWS.T, np.ones(2)
    power = -1 / alpha
    for _ in range(100):
        slope = gramian - np.diag(power * a ** (power - 1))
        step = np.linalg.solve(slope, gramian @ a - a**power)
        while (a - step).min() <= 0:
            step = step / 2
        a = a - step
    return weighted(*a)


def nash_mtl() -> Vector:
    found = bargain()
    # torchjd divides the Gramian by its norm, and max_norm is 1
    found = found * math.sqrt(np.linalg.norm(ROWS @ ROWS.T))
    size = float(np.linalg.norm(found))
    return found / max(size, 1.0)


def grad_drop() -> Vector:
    positive = 0.5 * (1 + ROWS.sum(0) / np.abs(ROWS).sum(0))
    chance = drawn(lambda: torch.rand(3))
    kept = (positive > chance) * (ROWS > 0) + (positive < chance) * (ROWS < 0)
    return (kept * ROWS).sum(0)


def imtl_g() -> Vector:
    """Weights that sum to 1, with equal projections on the unit gradients."""
    units = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    projections = ROWS @ (units[0] - units[1])
    share = -projections[1] / (projections[0] - projections[1])
    return weighted(share, 1 - share)


def mgda() -> Vector:
    first, second = ROWS
    share = float(np.clip((second - first) @ second / ((first - second) @ (first - second)), 0, 1))
    return weighted(share, 1 - share)


def pcd() -> Vector:
    """The first gradient, turned until its cosine with the second is 0.02, at its own norm."""
    first, second = (row / np.linalg.norm(row) for row in ROWS)
    turned = first + max(0.0, 0.02 - first @ second) * second
    return np.linalg.norm(ROWS[0]) * turned / np.linalg.norm(turned)


def pcgrad() -> Vector:
    return without(ROWS[0], ROWS[1]) + without(ROWS[1], ROWS[0])


def on_simplex(vector: Vector) -> Vector:
    """The closest point of the simplex."""
    falling = np.sort(vector)[::-1]
    excess = (falling.cumsum() - 1) / np.arange(1, len(vector) + 1)
    return np.maximum(vector - excess[falling > excess][-1], 0.0)


def sdmgrad(
    first: Vector = ROWS,
    second: Vector = ROWS,
    third: Vector = ROWS,
    weights: Vector = (0.5, 0.5),
    rate: float = 1.0,
    steps: int = 20,
) -> tuple[Vector, Vector]:
    """Update and weights: steps of SGD with momentum 0.5, on scaled gradients; lambda is 0.3."""
    product = first @ second.T
    product = product / np.sqrt(np.maximum(product.diagonal(), 0)).mean() ** 2
    found, momentum, mean = np.array(weights), np.zeros(2), np.array([0.5, 0.5])
    for _ in range(steps):
        momentum = 0.5 * momentum + product @ (found + 0.3 * mean)
        found = on_simplex(found - rate * momentum)
    return (found + 0.3 * mean) @ third / 1.3, found


def modo(
    first: Vector = ROWS, second: Vector = ROWS, weights: Vector = (0.5, 0.5)
) -> tuple[Vector, Vector]:
    """Update and weights: one step of gamma 0.1, with rho 0.1."""
    before = np.array(weights)
    found = on_simplex(before - 0.1 * (first @ second.T @ before + 0.1 * before))
    return found @ (first + second) / 2, found


def shares() -> Vector:
    return weighted(*drawn(lambda: torch.randn(2).softmax(0)))


REFERENCES: dict[str, Callable[[], Vector]] = {
    "aligned_mtl": aligned_mtl,
    "cagrad": cagrad,
    "conflict_free": conflict_free,
    "cosmos": cosmos,
    "db_mtl": db_mtl,
    "dtp": lambda: weighted(1, 1),  # no accuracy known yet
    "dual_proj": dual_proj,
    "dwa": lambda: weighted(1, 1),  # no two epochs yet
    "excess_mtl": lambda: weighted(1, 1),  # the first call measures the risks
    "fair_grad": lambda: bargain(alpha=2.0),
    "famo": famo,
    "geometric_mean": lambda: weighted(*(1.0 / 2 / LOSSES)),  # sqrt(2.0 * 0.5) is 1
    "grad_drop": grad_drop,
    "grad_vac": pcgrad,  # the running cosines begin at 0
    "gradnorm": lambda: weighted(1, 1),
    "imtl_g": imtl_g,
    "imtl_l": lambda: weighted(1, 1),
    "mean": lambda: weighted(0.5, 0.5),
    "mgda": mgda,
    "modo": lambda: modo()[0],
    "nash_mtl": nash_mtl,
    "pbi": pbi,
    "pcd": pcd,
    "pcgrad": pcgrad,
    "random_gradient": shares,
    "random_loss": shares,
    "sdmgrad": lambda: sdmgrad()[0],
    "static": lambda: weighted(1, 1),
    "stch": stch,
    "uncertainty": lambda: weighted(1, 1),
    "upgrad": lambda: 0.5 * pcgrad(),  # two tasks: each projected, then the mean
    "uw": lambda: weighted(0.5, 0.5),
}
SOLVED = {"cagrad": 1e-3, "dual_proj": 1e-3, "upgrad": 1e-3, "nash_mtl": 1e-2, "fair_grad": 1e-3}


def test_every_overlay_has_a_reference(lab: Any) -> None:
    assert set(lab.names) == set(REFERENCES)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_first_step_equals_the_formula(name: str, lab: Any, step: Any) -> None:
    balancer = lab.balancer(lab.method(name), ("cifar10", "cifar100"))
    size, theta = lab.micro_batches(name), torch.nn.Parameter(torch.zeros(3))
    given = {"seed": SEED, "theta": theta, "micro_batches": size}
    for number in range(size):
        last = number == size - 1
        found = step(balancer, LOSSES.tolist(), ROWS.tolist(), last=last, **given)
    wanted = REFERENCES[name]()
    assert np.linalg.norm(wanted) > 1e-3
    np.testing.assert_allclose(
        found.numpy(),
        wanted,
        rtol=SOLVED.get(name, 2e-5),
        atol=2e-5 if name not in SOLVED else 1e-3,
    )
    assert balancer.weights is not None
    rebuilt = balancer.weights.double().numpy() @ ROWS
    if name != "grad_drop":  # it combines each weight's gradients in its own way
        np.testing.assert_allclose(rebuilt, found.numpy(), rtol=1e-4, atol=1e-5)
