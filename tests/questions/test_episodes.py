from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tl.questions.episodes import (
    METHODS,
    accuracies,
    draw_episodes,
    logistic,
    nearest_mean,
    ridge,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_episodes_hold_different_samples_of_different_classes() -> None:
    labels = torch.arange(200) % 8
    found = draw_episodes(labels, ways=5, shots=2, queries=3, count=30, seed=0)
    assert found.shape == (30, 5, 5)
    for episode in found:
        classes = labels[episode]
        assert (classes == classes[:, :1]).all()
        assert len(torch.unique(classes[:, 0])) == 5
        assert len(torch.unique(episode)) == 25
    again = draw_episodes(labels, ways=5, shots=2, queries=3, count=30, seed=0)
    assert torch.equal(found, again)
    for name, least in (("ways", 2), ("shots", 1), ("queries", 1)):
        sizes = {"ways": 5, "shots": 1, "queries": 5, name: least - 1}
        with pytest.raises(ValueError, match=f"has {least} {name} or more, got {least - 1}"):
            draw_episodes(torch.arange(40) % 8, **sizes, count=1, seed=0)
    with pytest.raises(ValueError, match="there are 8 classes, the smallest with 25 samples"):
        draw_episodes(labels, ways=9, shots=1, queries=1, count=1, seed=0)
    with pytest.raises(ValueError, match="20 shots and 6 queries needs 26"):
        draw_episodes(labels, ways=5, shots=20, queries=6, count=1, seed=0)


def test_the_nearest_mean_by_hand() -> None:
    supports = torch.tensor([[[[0.0, 0.0], [0.0, 2.0]], [[4.0, 0.0], [4.0, 2.0]]]])
    queries = torch.tensor([[[1.0, 1.0], [4.0, 1.0]]])
    assert nearest_mean(supports, queries).tolist() == [[[-1, -9], [-16, 0]]]


def test_ridge_is_that_of_the_normal_equations() -> None:
    supports, queries = drawn(2, 3, 4, 5), drawn(2, 6, 5, seed=1)
    found = ridge(supports, queries)
    targets = functional.one_hot(torch.arange(3).repeat_interleave(4)).double()
    for episode in range(2):
        x = supports[episode].reshape(12, 5)
        level = targets.mean(0)
        eye = torch.eye(5, dtype=x.dtype)
        weights = torch.linalg.solve(x.T @ x + eye, x.T @ (targets - level))
        torch.testing.assert_close(found[episode], queries[episode] @ weights + level)


def test_logistic_regression_is_at_its_minimum() -> None:
    supports = functional.normalize(drawn(1, 5, 5, 8), dim=-1)
    queries = torch.eye(8, dtype=torch.float64)[None]
    weights = logistic(supports, queries)[0].clone().requires_grad_()  # (8, 5)
    targets = torch.arange(5).repeat_interleave(5)
    flat = supports[0].reshape(25, 8)
    loss = functional.cross_entropy(flat @ weights, targets, reduction="sum")
    (loss + weights.square().sum() / 2).backward()  # type: ignore[no-untyped-call]
    assert weights.grad is not None
    assert float(weights.grad.abs().max()) < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_signal_is_answered_and_noise_is_chance(method: str) -> None:
    labels = torch.arange(300) % 10
    noise = drawn(300, 16)
    signal = noise + 6 * functional.one_hot(labels, 16)
    episodes = draw_episodes(labels, ways=5, shots=5, queries=10, count=200, seed=0)
    good = accuracies(signal, episodes, 5, method).mean()
    assert good > 0.95
    chance = accuracies(noise, episodes, 5, method)
    assert abs(float(chance.mean()) - 0.2) < 0.03
    shifted = accuracies(signal + 100, episodes, 5, method, signal.mean(0) + 100).mean()
    assert shifted > 0.95
