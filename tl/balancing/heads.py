"""Gradients of the heads, for aggregators that weight them too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, ExcessMTL, NashMTL

from tl.balancing.gradients import accumulate


def weights_heads(method: Aggregator) -> bool:
    """Return whether the weights of a method multiply the heads' gradients too.

    They do for Nash-MTL and ExcessMTL, whose authors' code multiplies the losses. Another
    aggregator requests it with the attribute ``weights_heads = True``.
    """
    return isinstance(method, NashMTL | ExcessMTL) or bool(getattr(method, "weights_heads", False))


def head_weights(method: Aggregator, weights: Tensor) -> Tensor:
    """Return the factor of each task's head gradient ``(T,)``.

    Args:
        method: The aggregator, after the call.
        weights: Its weights of the shared gradients ``(T,)``.
    """
    if not weights_heads(method):
        return torch.ones_like(weights)
    if isinstance(method, NashMTL):
        # the solution itself: `max_norm` bounds the update of the shared parameters only
        return torch.as_tensor(method.weighting.prvs_alpha).to(weights)
    return weights


class HeadGradients:
    """Gradients of the heads by task, accumulated until the weights of the step are known.

    Args:
        parameters: All parameters that are not shared.
        tasks: Number of tasks.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], tasks: int) -> None:
        self.parameters = list(parameters)
        self._sums: list[dict[int, Tensor]] = [{} for _ in range(tasks)]

    def add(self, task: int, gradients: Sequence[Tensor | None]) -> None:
        """Add the gradients of a task, one for each parameter; ``None`` adds nothing."""
        sums = self._sums[task]
        for number, gradient in enumerate(gradients):
            if gradient is not None:
                sums[number] = sums[number] + gradient if number in sums else gradient

    def write(self, weights: Tensor) -> None:
        """Add the gradients, times the weight of each task ``(T,)``, to ``.grad``."""
        for sums, weight in zip(self._sums, weights, strict=True):
            for number, gradient in sums.items():
                accumulate(self.parameters[number], gradient * weight.to(gradient))
