from __future__ import annotations

import math

import pytest
import torch

from tests.transfer.penalties.steps import images, network, step
from tl.transfer.penalties import BSS
from tl.transfer.penalties.bss import smallest_energy


def test_the_value_by_hand() -> None:
    # singular values 5, 3 and 1, whatever the order of rows
    features = torch.tensor([[0.0, 3, 0], [0, 0, -1], [5, 0, 0], [0, 0, 0]])
    assert float(smallest_energy(features, 1)) == pytest.approx(1)
    assert float(smallest_energy(features, 2)) == pytest.approx(10)
    # all of them, however many are asked for: the squared Frobenius norm
    assert float(smallest_energy(features, 9)) == pytest.approx(35)
    assert float(smallest_energy(features.T, 2)) == pytest.approx(10)


def test_the_definition() -> None:
    features = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    values = sorted(math.sqrt(v) for v in torch.linalg.eigvalsh(features.T @ features).tolist())
    for k in (1, 3):
        wanted = sum(value**2 for value in values[:k])
        assert float(smallest_energy(features, k)) == pytest.approx(wanted, rel=1e-4)
    spectrum = torch.linalg.svdvals(features)
    assert float(smallest_energy(features, 1)) == pytest.approx(float(spectrum[-1] ** 2))


def test_the_term_is_of_the_whole_batch() -> None:
    backbone, heads = network()
    given = step(backbone, heads, images(), torch.zeros(6, dtype=torch.long))
    features = given.features[None]
    halves = {"a": features[:2], "b": features[2:]}
    whole = BSS(k=2, eta=0.5)(given)
    assert float(whole) == pytest.approx(0.5 * float(smallest_energy(features, 2)))
    apart = type(given)(**{**vars(given), "features": halves})
    assert float(BSS(k=2, eta=0.5)(apart)) == pytest.approx(float(whole))


def test_half_precision_is_decomposed_in_single() -> None:
    features = torch.eye(3, 2, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = smallest_energy(features @ torch.eye(2, dtype=torch.bfloat16), 1)
    torch.autograd.backward(found)
    assert found.dtype == torch.float32
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_batch_without_full_rank_has_a_gradient() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    torch.autograd.backward(smallest_energy(features, 2))
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`k` must be 1 or more, got 0"):
        BSS(k=0)
    with pytest.raises(ValueError, match="`eta` must be 0 or more, got -1"):
        BSS(eta=-1)
