from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tl.questions.logme import logme
from tl.questions.neighbours import directions, neighbour_means
from tl.questions.scores import STRENGTHS, h_score, leep, ridge_left_out, shrinkage


def drawn(count: int, size: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def fitted(features: Tensor, values: Tensor, query: Tensor, strength: float) -> Tensor:
    """Ridge with an intercept that is not penalised, by the normal equations."""
    mean, level = features.mean(0), values.mean(0)
    centred = features - mean
    system = centred.T @ centred + strength * torch.eye(features.shape[1], dtype=features.dtype)
    weights = torch.linalg.solve(system, centred.T @ (values - level))
    found: Tensor = (query - mean) @ weights + level
    return found


@pytest.mark.parametrize("size", [4, 30])
@pytest.mark.parametrize("per_group", [1, 3])
def test_leaving_out_in_closed_form_is_leaving_out(size: int, per_group: int) -> None:
    features, values = drawn(18, size), drawn(18, 2, seed=1)
    values += features[:, :2]
    groups = torch.arange(18) // per_group
    found = ridge_left_out(features, values, groups if per_group > 1 else None)
    squares = torch.linalg.svdvals(features - features.mean(0)).square()
    squares = squares[squares > 1e-9]
    errors, candidates = [], []
    for strength in STRENGTHS:
        rows = []
        for group in torch.unique(groups):
            out = groups == group
            rest = float(strength * squares.mean())
            rows.append(fitted(features[~out], values[~out], features[out], rest))
        candidates.append(torch.cat(rows))
        errors.append(float((candidates[-1] - values).square().sum()))
    best = candidates[min(range(len(errors)), key=errors.__getitem__)]
    torch.testing.assert_close(found, best, rtol=1e-5, atol=1e-6)


def test_shrinkage_by_its_definition() -> None:
    features = drawn(25, 6) * torch.arange(1, 7)
    features -= features.mean(0)
    covariance = features.T @ features / 25
    target = covariance.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    each = [(x[:, None] * x[None, :] - covariance).square().sum() for x in features]
    wanted = sum(each) / 25**2 / (covariance - target).square().sum()
    assert shrinkage(features) == pytest.approx(float(wanted))
    assert shrinkage(features * 0) == 1


def test_the_h_score_is_the_trace_and_an_absent_class_does_not_count() -> None:
    labels = torch.arange(60) % 3
    features = drawn(60, 4) + 2 * functional.one_hot(labels, 4)
    centred = features - features.mean(0)
    share = shrinkage(centred)
    means = torch.stack([centred[labels == c].mean(0) for c in range(3)])[labels]
    covariance = centred.T @ centred / 60
    level = covariance.diagonal().mean()
    shrunk = (1 - share) * covariance + share * level * torch.eye(4, dtype=torch.float64)
    wanted = (torch.linalg.inv(shrunk) @ (means.T @ means / 60)).trace() * (1 - share)
    assert h_score(features, labels) == pytest.approx(float(wanted))
    assert h_score(features, 2 * labels) == h_score(features, labels)


def test_the_h_score_does_not_saturate_with_more_features_than_images() -> None:
    labels = torch.arange(40) % 4
    noise = drawn(40, 200)
    signal = noise + 8 * functional.one_hot(labels, 200)
    assert h_score(noise, labels) < 1  # without shrinkage it is 3, as for any features
    assert 1.5 * h_score(noise, labels) < h_score(signal, labels) < 3


def test_leep_by_hand_and_at_most_zero() -> None:
    theta = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]])
    labels = torch.tensor([0, 0, 1])
    joint = torch.tensor([[1.4, 0.6], [0.1, 0.9]])
    conditional = joint / joint.sum(0)
    wanted = torch.stack([theta[i] @ conditional[labels[i]] for i in range(3)]).log().mean()
    assert leep(theta.log(), labels) == pytest.approx(float(wanted))
    assert leep(drawn(50, 7), torch.arange(50) % 5) < 0
    perfect = 100.0 * functional.one_hot(labels, 2)
    assert -1e-9 < leep(perfect, labels) <= 0


def test_leep_with_a_source_class_that_is_never_predicted() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    logits = drawn(4, 3)
    with_another = torch.cat([logits, torch.full((4, 1), -torch.inf)], dim=1)
    assert leep(with_another, labels) == pytest.approx(leep(logits, labels))
    assert math.isfinite(leep(torch.cat([logits, torch.full((4, 1), -1e4)], dim=1), labels))
    assert leep(logits, 3 * labels) == leep(logits, labels)  # classes that are absent


def test_noise_ranks_last_in_every_column() -> None:
    labels = torch.arange(100) % 5
    one_hot = functional.one_hot(labels).double()
    signal = {
        strength: drawn(100, 150, seed=strength) + strength * functional.one_hot(labels, 150)
        for strength in (0, 2, 4)
    }
    own = torch.arange(100)

    def knn(features: Tensor) -> float:
        unit = directions(features)
        votes = neighbour_means(unit, unit, one_hot, k=10, groups=(own, own))
        return float((votes.argmax(1) == labels).double().mean())

    def probe(features: Tensor) -> float:
        right = ridge_left_out(features, one_hot).argmax(1) == labels
        return float(right.double().mean())

    columns: dict[str, Callable[[Tensor], float]] = {
        "knn": knn,
        "probe": probe,
        "logme": partial(logme, values=one_hot),
        "h": partial(h_score, labels=labels),
        "leep": lambda features: leep(features[:, :5], labels),
    }
    for name, score in columns.items():
        values = [score(features) for features in signal.values()]
        assert values == sorted(values), name
        assert values[0] < values[1], name
