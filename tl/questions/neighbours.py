"""Nearest neighbours in feature space: classes and numbers that neighbours vote for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_QUERIES = 1024  # compared with the bank at once


def directions(features: Tensor, mean: Tensor | None = None) -> Tensor:
    """Return features without their mean, of length 1 each.

    Cosines of such features do not change when all features are rotated, shifted or scaled.

    Args:
        features: ``(N, D)``.
        mean: ``(D,)`` to subtract; by default their own.
    """
    mean = features.mean(0) if mean is None else mean
    return functional.normalize(features - mean, dim=1)


def neighbour_means(
    queries: Tensor,
    bank: Tensor,
    values: Tensor,
    *,
    k: int,
    temperature: float = 0.1,
    groups: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the mean of the values of each query's nearest neighbours.

    The `k` neighbours of the largest cosine count with the weight ``exp(cosine / temperature)``
    (Wu et al., 2018, arXiv:1805.01978, section 3.4). With one-hot values the mean is a vote.

    Args:
        queries: Features ``(Q, D)`` of length 1, see :func:`directions`.
        bank: Features ``(N, D)`` of length 1.
        values: ``(N, T)``, such as one-hot classes.
        k: Neighbours, 1 or more; at most those that are there.
        temperature: Above 0; smaller values favour the nearest.
        groups: Group of each query ``(Q,)`` and of each sample of the bank ``(N,)``: neighbours of
            the query's own group are left out, as the sample itself or other pixels of its image.

    Returns:
        ``(Q, T)``; 0 where there is no neighbour.

    Raises:
        ValueError: If `k` or the temperature is out of range, or the bank is empty.
    """
    if k < 1 or temperature <= 0 or not len(bank):
        raise ValueError(
            f"Neighbours need `k` of 1 or more, a temperature above 0 and a bank, got {k}, "
            f"{temperature} and {len(bank)} samples."
        )
    found = []
    for start in range(0, len(queries), _QUERIES):
        part = slice(start, start + _QUERIES)
        cosine = queries[part] @ bank.T
        if groups is not None:
            own = groups[0][part, None] == groups[1][None, :]
            cosine = cosine.masked_fill(own, -torch.inf)
        near, index = cosine.topk(min(k, len(bank)), dim=1)
        # relative to the nearest: the largest exponential is 1
        weight = ((near - near[:, :1]) / temperature).exp().nan_to_num(0.0)
        total = weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        found.append(torch.einsum("qk,qkt->qt", weight / total, values[index]))
    return torch.cat(found) if found else values.new_zeros(0, values.shape[1])


def knn_accuracy(
    queries: Tensor,
    query_labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.1,
) -> float:
    """Return the share of queries that their neighbours in a bank classify correctly.

    Both are centred by the mean of the bank.

    Args:
        queries: Features ``(Q, D)``.
        query_labels: Classes ``(Q,)``, 0 or more.
        bank: Features ``(N, D)``.
        bank_labels: Classes ``(N,)``, 0 or more.
        k: Neighbours.
        temperature: As for :func:`neighbour_means`.
    """
    mean = bank.mean(0)
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    values = functional.one_hot(bank_labels, classes).to(bank.dtype)
    votes = neighbour_means(
        directions(queries, mean), directions(bank, mean), values, k=k, temperature=temperature
    )
    return float((votes.argmax(1) == query_labels).float().mean())


def leave_one_out_accuracy(
    features: Tensor, labels: Tensor, *, k: int = 200, temperature: float = 0.1
) -> float:
    """Return the share of samples that their neighbours among the others classify correctly.

    Args:
        features: ``(N, D)``.
        labels: Classes ``(N,)``, 0 or more.
        k: Neighbours.
        temperature: As for :func:`neighbour_means`.
    """
    own = torch.arange(len(labels), device=features.device)
    near, values = directions(features), functional.one_hot(labels).to(features.dtype)
    votes = neighbour_means(near, near, values, k=k, temperature=temperature, groups=(own, own))
    return float((votes.argmax(1) == labels).float().mean())
