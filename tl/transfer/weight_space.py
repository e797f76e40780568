"""Networks between networks: weights interpolated, averaged, and chosen for an average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tl.checkpoints.files import listed
from tl.transfer.freezing import is_batch_norm

T = TypeVar("T")
State = Mapping[str, Tensor]


def average_weights(
    states: Sequence[State], weights: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """Average networks of one architecture, ``sum_i weights_i theta_i``.

    Two networks with weights ``(1 - alpha, alpha)`` are WiSE-FT, between the source's
    ``theta_0`` and the fine-tuned ``theta_1`` (Wortsman et al., 2022, arXiv:2109.01903, section
    3); any number of fine-tuned ones with equal weights are a uniform soup (Wortsman et al.,
    2022, arXiv:2203.05482, table 2). Those papers' networks have no batch norm: its running
    statistics are averaged here as all else, which is a start only;
    :func:`estimate_statistics` gives the average network its own.

    Args:
        states: State dicts with the same names and shapes, one or more.
        weights: Share of each, 0 or more, adding up to 1; equal ones by default. A network whose
            share is 1 comes out bit for bit.

    Returns:
        The average in the types of the last network; what is no floating-point number, such as
        ``num_batches_tracked``, is the last network's.

    Raises:
        ValueError: If the networks differ in names or shapes, or the weights are no shares.
    """
    if not states:
        raise ValueError("There is nothing to average; give at least one network.")
    shares = [1 / len(states)] * len(states) if weights is None else list(weights)
    if len(shares) != len(states):
        raise ValueError(f"`weights` must be {len(states)} numbers, one per network, got {shares}.")
    if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1, rel_tol=1e-6):
        raise ValueError(f"`weights` must be 0 or more and add up to 1, got {shares}.")
    for state in states[:-1]:
        check_alike(state, states[-1])
    parts = [(share, state) for share, state in zip(shares, states, strict=True) if share]
    averaged: dict[str, Tensor] = {}
    for name, last in states[-1].items():
        if last.is_floating_point():
            # in double precision: one share of 1, and equal networks, come out as they were
            total = torch.stack([state[name].double() * share for share, state in parts]).sum(0)
            averaged[name] = total.to(last.dtype)
        else:
            averaged[name] = last.clone()
    return averaged


def check_alike(state: State, other: State) -> None:
    """Refuse networks that differ in names or shapes.

    Raises:
        ValueError: If they do, naming the first differences.
    """
    for here, there in ((state, other), (other, state)):
        if missing := [name for name in here if name not in there]:
            raise ValueError(
                f"Only networks of one architecture and with the same heads average; one has "
                f"{listed(missing, 3)} and another has not."
            )
    for name, tensor in state.items():
        if tensor.shape != other[name].shape:
            raise ValueError(
                f"Only networks of one architecture and with the same heads average; {name} is "
                f"{tuple(tensor.shape)} in one and {tuple(other[name].shape)} in another."
            )


@dataclass(frozen=True)
class Soup:
    """What greedy selection chose.

    Attributes:
        members: Positions of the chosen networks, the best first.
        accuracy: Validation score of their average, which is an accuracy unless tasks have others.
        alone: Validation score of each network.
    """

    members: tuple[int, ...]
    accuracy: float
    alone: tuple[float, ...]


def greedy_soup(
    count: int, score: Callable[[Sequence[int]], float], *, higher_is_better: bool = True
) -> Soup:
    """Add networks to a uniform soup, the best first, as long as it does not get worse.

    Recipe 1 of Wortsman et al., 2022, arXiv:2203.05482. The soup is never worse on the validation
    images than its best ingredient. They must be held out from all ingredients, and they are used
    up: what the soup is worth is said by other images.

    Args:
        count: How many networks there are, 1 or more.
        score: Validation score of the uniform average of the networks at some positions.
        higher_is_better: Whether a higher score is, as an accuracy.

    Returns:
        The chosen networks.

    Raises:
        ValueError: If there is no network, or a score is NaN.
    """
    if count < 1:
        raise ValueError("There is nothing to choose from; give at least one network.")
    alone = tuple(score([position]) for position in range(count))
    if any(math.isnan(value) for value in alone):
        raise ValueError(f"The validation score is not a number for some networks: {alone}.")
    sign = 1 if higher_is_better else -1
    first, *others = sorted(range(count), key=lambda position: -sign * alone[position])
    members, best = [first], alone[first]
    for position in others:
        value = score([*members, position])
        if sign * value >= sign * best:  # not worse is enough, as in the paper
            members, best = [*members, position], value
    return Soup(tuple(members), best, alone)


def estimate_statistics(
    backbone: nn.Module, batches: Iterable[T], forward: Callable[[T], Any]
) -> int:
    """Estimate batch norm's running statistics anew, over batches of training images.

    Averaged weights have activations of their own, and need statistics of their own (Izmailov et
    al., 2018, arXiv:1803.05407, section 3.2). As in ``torch.optim.swa_utils.update_bn``, they are
    the mean over batches of the batches' means and unbiased variances, each layer behind others
    that normalise by the batch. Unlike there, a smaller batch counts for less, and only batch norm
    is in training mode: dropout stays off, as where the statistics will be used.

    Args:
        backbone: The network; its batch norms are changed in place, their ``momentum`` is kept.
        batches: The batches, in random order: those of one class would not do.
        forward: Passes a batch through the network. Batch norms with statistics per source say
            by ``source`` which are in force.

    Returns:
        How many batches there were; without batch norm 0, and none is read.

    Raises:
        ValueError: If there is no batch.
    """
    layers: list[Any] = [layer for layer in backbone.modules() if is_batch_norm(layer)]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    modes = {module: module.training for module in backbone.modules()}
    seen: dict[tuple[int, str | None], int] = {}

    def weigh(layer: Any, inputs: tuple[Tensor, ...]) -> None:  # noqa: ANN401 - a batch norm
        key = (id(layer), getattr(layer, "source", None))
        values = inputs[0].numel() // inputs[0].shape[1]
        seen[key] = seen.get(key, 0) + values
        # the first batch replaces what was there, later ones are averaged in
        layer.momentum = values / seen[key]

    hooks = [layer.register_forward_pre_hook(weigh) for layer in layers]
    read = 0
    try:
        backbone.eval()
        for layer in layers:
            layer.train()
            if isinstance(count := getattr(layer, "num_batches_tracked", None), Tensor):
                count.zero_()
        with torch.no_grad():
            for batch in batches:
                forward(batch)
                read += 1
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not read:
        raise ValueError("There are no training images to estimate batch-norm statistics on.")
    return read
