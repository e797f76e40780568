"""Networks between networks: interpolate and average weights, and select what to average."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tl.checkpoints.files import listed
from tl.private.torch import BatchNorm

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
    statistics are averaged like everything else, which is only a start; :func:`estimate_statistics`
    estimates those of the average network.

    Args:
        states: State dicts with the same names and shapes, one or more.
        weights: Weight of each, 0 or more, summing to 1; equal by default. A network with weight 1
            is returned bit for bit.

    Returns:
        The average in the types of the last network; integer tensors, such as
        ``num_batches_tracked``, come from the last network.

    Raises:
        ValueError: If the networks differ in names or shapes, or the weights do not sum to 1.
    """
    if not states:
        raise ValueError("Nothing to average; give at least one network.")
    shares = [1 / len(states)] * len(states) if weights is None else list(weights)
    if len(shares) != len(states):
        raise ValueError(f"`weights` must be {len(states)} numbers, one per network, got {shares}.")
    if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1, rel_tol=1e-6):
        raise ValueError(f"`weights` must be 0 or more and sum to 1, got {shares}.")
    for state in states[:-1]:
        check_alike(state, states[-1])
    parts = [(share, state) for share, state in zip(shares, states, strict=True) if share]
    averaged: dict[str, Tensor] = {}
    for name, last in states[-1].items():
        if last.is_floating_point():
            # in double precision: a weight of 1, and equal networks, are reproduced exactly
            total = torch.stack([state[name].double() * share for share, state in parts]).sum(0)
            averaged[name] = total.to(last.dtype)
        else:
            averaged[name] = last.clone()
    return averaged


def check_alike(state: State, other: State) -> None:
    """Refuse networks that differ in names or shapes.

    Raises:
        ValueError: If they do; names the first differences.
    """
    for here, there in ((state, other), (other, state)):
        if missing := [name for name in here if name not in there]:
            raise ValueError(
                f"Only networks with the same architecture and heads can be averaged; one has "
                f"{listed(missing, 3)} and another does not."
            )
    for name, tensor in state.items():
        if tensor.shape != other[name].shape:
            raise ValueError(
                f"Only networks with the same architecture and heads can be averaged; {name} is "
                f"{tuple(tensor.shape)} in one and {tuple(other[name].shape)} in another."
            )


@dataclass(frozen=True)
class Soup:
    """Result of greedy selection.

    Attributes:
        members: Indices of the selected networks, best first.
        accuracy: Validation score of their average: an accuracy, unless the tasks have another
            score.
        alone: Validation score of each network.
    """

    members: tuple[int, ...]
    accuracy: float
    alone: tuple[float, ...]


def greedy_soup(
    count: int, score: Callable[[Sequence[int]], float], *, higher_is_better: bool = True
) -> Soup:
    """Add networks to a uniform soup, best first, as long as it does not get worse.

    Recipe 1 of Wortsman et al., 2022, arXiv:2203.05482. The soup is never worse on the validation
    images than its best ingredient. These images must be held out from all ingredients. Selecting
    on them uses them up: evaluate the soup on other images.

    Args:
        count: How many networks there are, 1 or more.
        score: Returns the validation score of the uniform average of the networks at given indices.
        higher_is_better: Whether a higher score is better, as for an accuracy.

    Returns:
        The selected networks.

    Raises:
        ValueError: If there is no network, or a score is NaN.
    """
    if count < 1:
        raise ValueError("Nothing to select from; give at least one network.")
    alone = tuple(score([position]) for position in range(count))
    if any(math.isnan(value) for value in alone):
        raise ValueError(f"The validation score of some networks is NaN: {alone}.")
    sign = 1 if higher_is_better else -1
    first, *others = sorted(range(count), key=lambda position: -sign * alone[position])
    members, best = [first], alone[first]
    for position in others:
        value = score([*members, position])
        if sign * value >= sign * best:  # ties are accepted, as in the paper
            members, best = [*members, position], value
    return Soup(tuple(members), best, alone)


def estimate_statistics(
    network: nn.Module, batches: Iterable[T], forward: Callable[[T], Any]
) -> int:
    """Re-estimate batch norm's running statistics on batches of training images.

    Averaged weights have different activations, and need their own statistics (Izmailov et al.,
    2018, arXiv:1803.05407, section 3.2). As in ``torch.optim.swa_utils.update_bn``, they are the
    mean over batches of the batches' means and unbiased variances, with preceding layers
    normalising by the batch. Unlike there, a smaller batch has less weight, and only batch norm is
    in training mode: dropout stays off, as it will be when the statistics are used.

    Args:
        network: The network; its batch norms are updated in place and keep their ``momentum``.
        batches: The batches, in random order; batches of a single class would bias the estimate.
        forward: Passes a batch through the network. In batch norms with statistics per source,
            ``source`` selects the active ones.

    Returns:
        The number of batches read; 0 without batch norm.

    Raises:
        ValueError: If there is no batch.
    """
    layers: list[Any] = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
    if not layers:
        return 0
    momenta = [layer.momentum for layer in layers]
    modes = {module: module.training for module in network.modules()}
    seen: dict[tuple[int, str | None], int] = {}

    def weigh(layer: Any, inputs: tuple[Tensor, ...]) -> None:  # noqa: ANN401 - a batch norm
        key = (id(layer), getattr(layer, "source", None))
        values = inputs[0].numel() // inputs[0].shape[1]
        seen[key] = seen.get(key, 0) + values
        # the first batch replaces the old statistics, later ones are averaged in
        layer.momentum = values / seen[key]

    hooks = [layer.register_forward_pre_hook(weigh) for layer in layers]
    read = 0
    try:
        network.eval()
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
        raise ValueError("No training images to estimate batch-norm statistics on.")
    return read
