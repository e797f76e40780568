from __future__ import annotations

import math

import pytest
import torch

from tests.transfer.adaptation.domains import features
from tl.transfer.adaptation.mk_mmd import MKMMD, SCALES, mk_mmd


def by_loops(source: list[list[float]], target: list[list[float]]) -> float:
    every = [*source, *target]

    def distance(a: list[float], b: list[float]) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    width = sum(distance(a, b) for a in every for b in every) / len(every) ** 2

    def mean(one: list[list[float]], other: list[list[float]]) -> float:
        total = 0.0
        for a in one:
            for b in other:
                total += sum(math.exp(-distance(a, b) / (2 * s * width)) for s in SCALES)
        return total / (len(one) * len(other))

    return mean(source, source) + mean(target, target) - 2 * mean(source, target)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 7)])
def test_the_value_is_that_of_a_double_loop(n: int, m: int) -> None:
    source, target = features(0, n).detach(), features(1, m).detach()
    wanted = by_loops(source.tolist(), target.tolist())
    assert float(mk_mmd(source, target)) == pytest.approx(wanted, rel=1e-4)


def test_equal_samples_are_0_apart_and_scale_does_not_matter() -> None:
    source, target = features(0).detach(), features(1).detach()
    assert float(mk_mmd(source, source.flip(0))) == pytest.approx(0, abs=1e-6)
    assert float(mk_mmd(10 * source, 10 * target)) == pytest.approx(float(mk_mmd(source, target)))
    assert float(mk_mmd(torch.zeros(3, 2), torch.zeros(4, 2))) == 0


def test_its_gradient_brings_samples_together() -> None:
    source, target = features(0), features(1)
    torch.autograd.backward(mk_mmd(source, target))
    assert source.grad is not None
    moved = source.detach() - 0.1 * source.grad
    assert mk_mmd(moved, target) < mk_mmd(source, target)


def test_scales_are_checked() -> None:
    for wrong in ([], [1.0, 0.0], [1.0, math.nan], [math.inf]):
        with pytest.raises(ValueError, match="`scales` must be above 0 and finite, one or more"):
            MKMMD(scales=wrong)
