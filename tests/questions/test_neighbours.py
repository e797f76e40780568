from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tl.questions.neighbours import (
    directions,
    knn_accuracy,
    leave_one_out_accuracy,
    neighbour_means,
)


def clusters(count: int = 60, classes: int = 3, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    centres = 3 * torch.randn(classes, size, generator=drawn)
    return centres[labels] + torch.randn(count, size, generator=drawn), labels


def test_the_nearest_votes_by_hand() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    values = torch.eye(3)
    query = torch.tensor([[1.0, 0.0]])
    [one] = neighbour_means(query, bank, values, k=1)
    assert one.tolist() == [1, 0, 0]
    [two] = neighbour_means(query, bank, values, k=2, temperature=0.4)
    share = 1 / (1 + torch.tensor((0.6 - 1.0) / 0.4).exp())
    torch.testing.assert_close(two, torch.stack([share, torch.tensor(0.0), 1 - share]))


def test_an_image_is_not_its_own_neighbour() -> None:
    features, labels = clusters()
    unit = directions(features)
    values = functional.one_hot(labels).float()
    own = torch.arange(len(unit))
    votes = neighbour_means(unit, unit, values, k=1, groups=(own, own))
    cosine = (unit @ unit.T).fill_diagonal_(-2)
    assert torch.equal(votes.argmax(1), labels[cosine.argmax(1)])
    alone = neighbour_means(unit, unit, values, k=1, groups=(own * 0, own * 0))
    assert not alone.any()  # no other group, no neighbour, no NaN


def test_rotation_shift_and_scale_change_nothing() -> None:
    features, labels = clusters()
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1))).Q
    other = 7 * (features @ turn) + 2
    queries, bank = features[:20], features[20:]
    found = knn_accuracy(queries, labels[:20], bank, labels[20:], k=5)
    assert found == knn_accuracy(other[:20], labels[:20], other[20:], labels[20:], k=5)
    assert found > 0.9
    noise = torch.randn(60, 8, generator=torch.Generator().manual_seed(2))
    assert knn_accuracy(noise[:20], labels[:20], noise[20:], labels[20:], k=5) < 0.7


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.1), (1, 0.0)])
def test_mistakes_are_said(k: int, temperature: float) -> None:
    with pytest.raises(ValueError, match="`k` of 1 or more, a temperature above 0"):
        neighbour_means(torch.eye(2), torch.eye(2), torch.eye(2), k=k, temperature=temperature)


def test_no_sample_votes_for_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(20, 3, generator=generator)
    labels = torch.arange(20) % 4
    near = features - features.mean(0)
    near = near / near.norm(dim=1, keepdim=True)
    right = 0
    for row in range(20):
        others = [other for other in range(20) if other != row]
        nearest = max(others, key=lambda other: float(near[row] @ near[other]))
        right += int(labels[nearest] == labels[row])
    assert leave_one_out_accuracy(features, labels, k=1) == pytest.approx(right / 20)
    pairs = torch.cat([features, features + 1e-4])  # each has its twin
    assert leave_one_out_accuracy(pairs, torch.arange(20).repeat(2), k=1) == 1
