"""Learning rate over the steps of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """Rise linearly, then fall along half a cosine (Loshchilov & Hutter, 2017, equation 5).

    ``lr(t) = base * (t + 1) / w`` for ``t < w``, after that
    ``base * (final + (1 - final) / 2 * (1 + cos(pi * (t - w) / (total - w))))``.

    Args:
        optimizer: The optimiser.
        total_steps: Optimiser steps of the whole run; filled in from the Trainer.
        warmup: Share of the steps that warm up, at least 0 and below 1.
        final: Last learning rate as a share of the first, 0 to 1.

    Raises:
        ValueError: If `total_steps` is not positive or a share is out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        warmup: float = 0.05,
        final: float = 0.0,
    ) -> None:
        if total_steps is None or total_steps < 1:
            raise ValueError(f"`total_steps` must be 1 or more, got {total_steps}.")
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must be at least 0 and below 1, got {warmup}.")
        if not 0 <= final <= 1:
            raise ValueError(f"`final` must be 0 to 1, got {final}.")
        rise = round(total_steps * warmup)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            progress = min(1.0, (step - rise) / max(1, total_steps - rise))
            return final + (1 - final) / 2 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)


def total_steps_of(
    factory: Callable[..., Any], count: Callable[[], int]
) -> tuple[dict[str, int], bool]:
    """Fill in ``total_steps`` for a scheduler that takes it and was not given it.

    Args:
        factory: Makes the scheduler from an optimiser: a class, a ``functools.partial``, a lambda
            or what the command line makes of a class path.
        count: Gives the optimiser steps of the run.

    Returns:
        Arguments to add, and whether the scheduler advances per step (it takes ``total_steps``)
        rather than per epoch.
    """
    classes = [a for a in getattr(factory, "args", ()) if isinstance(a, type)]
    target = classes[-1] if classes else getattr(factory, "func", factory)
    if "total_steps" not in inspect.signature(target).parameters:
        return {}, False
    given = getattr(factory, "keywords", {}).get("total_steps")
    return ({} if given is not None else {"total_steps": count()}), True
