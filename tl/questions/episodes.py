"""Episodes of few-shot classification on features: draw them, answer them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tl.questions.neighbours import directions

#: Answers from supports ``(E, W, S, D)`` and queries ``(E, Q, D)``: scores ``(E, Q, W)``.
Answer = Callable[[Tensor, Tensor], Tensor]
_CHUNK = 100  # episodes at once
_ROUNDS = 80  # of the logistic regression


def draw_episodes(
    labels: Tensor, *, ways: int, shots: int, queries: int, count: int, seed: int
) -> Tensor:
    """Return random episodes: so many classes, and so many different samples of each.

    Args:
        labels: Classes ``(N,)``, 0 or more.
        ways: Classes in an episode.
        shots: Labelled samples per class.
        queries: Samples per class to answer.
        count: Number of episodes.
        seed: Seed; episodes depend on nothing else.

    Returns:
        Positions ``(count, ways, shots + queries)``, the shots first.

    Raises:
        ValueError: If there are too few classes, or samples of one.
    """
    if count < 1:
        raise ValueError(f"The number of episodes must be 1 or more, got {count}.")
    check_episodes(labels, ways=ways, shots=shots, queries=queries)
    classes = torch.unique(labels).tolist()
    members = [(labels == number).nonzero().flatten() for number in classes]
    each = shots + queries
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(count, ways, each, dtype=torch.int64)
    for episode in range(count):
        chosen = torch.randperm(len(classes), generator=generator)[:ways].tolist()
        for way, number in enumerate(chosen):
            rows = members[number]
            # a sample without replacement at the cost of the sample, not of the class
            found[episode, way] = rows[_distinct(len(rows), each, generator)]
    return found


def check_episodes(labels: Tensor, *, ways: int, shots: int, queries: int) -> None:
    """Refuse episodes that the samples are too few for, see :func:`draw_episodes`.

    Raises:
        ValueError: If there are too few classes, or samples of one.
    """
    for name, value, least in (("ways", ways, 2), ("shots", shots, 1), ("queries", queries, 1)):
        if value < least:
            raise ValueError(f"An episode has {least} {name} or more, got {value}.")
    counts = torch.unique(labels, return_counts=True)[1].tolist()
    fewest, each = min(counts, default=0), shots + queries
    if len(counts) < ways or fewest < each:
        raise ValueError(
            f"An episode of {ways} classes with {shots} shots and {queries} queries needs {each} "
            f"samples of each class; there are {len(counts)} classes, the smallest with {fewest} "
            "samples."
        )


def _distinct(size: int, count: int, generator: torch.Generator) -> Tensor:
    if count * 4 > size:
        return torch.randperm(size, generator=generator)[:count]
    while True:
        drawn = torch.randint(size, (count,), generator=generator)
        if len(torch.unique(drawn)) == count:
            return drawn


def nearest_mean(supports: Tensor, queries: Tensor) -> Tensor:
    """Return minus the squared distances to the classes' means (Snell et al., 2017)."""
    means = supports.mean(2)
    return -torch.cdist(queries, means).square()


def ridge(supports: Tensor, queries: Tensor, strength: float = 1.0) -> Tensor:
    """Return a ridge regression's answers, in closed form (Bertinetto et al., 2019)."""
    flat, targets = _flat(supports)
    level = targets.mean(1, keepdim=True)
    gram = flat @ flat.transpose(1, 2)
    identity = strength * torch.eye(gram.shape[1], dtype=gram.dtype)
    dual = torch.linalg.solve(gram + identity, targets - level)
    found: Tensor = queries @ flat.transpose(1, 2) @ dual + level
    return found


def logistic(supports: Tensor, queries: Tensor) -> Tensor:
    """Return the logits of a multinomial logistic regression (Tian et al., 2020).

    It minimises the summed cross-entropy plus half the squared weights, without an intercept, by
    Nesterov's method on the dual weights of all episodes together.
    """
    flat, targets = _flat(supports)
    gram = flat @ flat.transpose(1, 2)
    # the Hessian of the cross-entropy is at most half the Gram matrix
    steep = 1 + 0.5 * gram.abs().sum(2).amax(1)[:, None, None]
    momentum = (steep.sqrt() - 1) / (steep.sqrt() + 1)
    dual = before = torch.zeros_like(targets)
    for _ in range(_ROUNDS):
        ahead = dual + momentum * (dual - before)
        slope = (gram @ ahead).softmax(2) - targets + ahead
        before, dual = dual, ahead - slope / steep
    return queries @ flat.transpose(1, 2) @ dual


def _flat(supports: Tensor) -> tuple[Tensor, Tensor]:
    """Return supports ``(E, W S, D)`` and their one-hot classes ``(E, W S, W)``."""
    episodes, ways, shots, size = supports.shape
    targets = torch.arange(ways).repeat_interleave(shots)
    one_hot = functional.one_hot(targets, ways).to(supports.dtype)
    return supports.reshape(episodes, ways * shots, size), one_hot.expand(episodes, -1, -1)


#: Method by name, and whether its features are centred and of length 1.
METHODS: dict[str, tuple[Answer, bool]] = {
    "nearest mean": (nearest_mean, False),
    "centred mean": (nearest_mean, True),
    "ridge": (ridge, True),
    "logistic": (logistic, True),
}


def accuracies(
    features: Tensor, episodes: Tensor, shots: int, method: str, centre: Tensor | None = None
) -> Tensor:
    """Return the accuracy of each episode ``(E,)``.

    Args:
        features: ``(N, D)``.
        episodes: Positions ``(E, W, shots + queries)``.
        shots: Labelled samples per class.
        method: One of :data:`METHODS`.
        centre: ``(D,)`` to subtract for methods on centred features: the mean of the classes that
            may be trained on (Wang et al., 2019, arXiv:1911.04623). By default the mean of the
            shots of each episode.
    """
    answer, normalise = METHODS[method]
    if normalise and centre is not None:
        features = directions(features, centre)
    found = []
    for part in torch.split(episodes, _CHUNK):
        drawn = features[part]  # (E, W, S + Q, D)
        supports, queries = drawn[:, :, :shots], drawn[:, :, shots:].flatten(1, 2)
        if normalise and centre is None:
            middle = supports.mean((1, 2), keepdim=True)
            supports = functional.normalize(supports - middle, dim=-1)
            queries = functional.normalize(queries - middle[:, 0], dim=-1)
        ways = part.shape[1]
        wanted = torch.arange(ways).repeat_interleave(part.shape[2] - shots)
        right = answer(supports, queries).argmax(2) == wanted
        found.append(right.double().mean(1))
    return torch.cat(found)
