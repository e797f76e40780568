"""Learning rate over the steps of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)


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


_TORCHS = LRScheduler.__module__
#: Arguments of a schedule that count optimiser steps of the whole run.
_LENGTHS = ("total_steps", "num_training_steps")
#: Arguments that only a schedule in steps has.
_IN_STEPS = frozenset({*_LENGTHS, "num_warmup_steps", "steps_per_epoch"})
#: Attributes of torch's schedules that hold their length, in either unit.
_DURATIONS = ("T_max", "total_iters", "T_0", "step_size")
_PER_STEP = (OneCycleLR, CyclicLR)
#: Schedules of functions or of other schedules, whose unit nobody but their author knows.
_OPEN = (LambdaLR, MultiplicativeLR, SequentialLR, ChainedScheduler)
_KEYS = {"scheduler", "interval", "frequency", "monitor", "strict", "name", "reduce_on_plateau"}
_ASK = (
    'return {"scheduler": ..., "interval": "step"} or {..., "interval": "epoch"}, or give its '
    "class an attribute `interval`"
)


def build_schedule(
    factory: Callable[..., Any],
    optimizer: Optimizer,
    count: Callable[[], int],
    probe: Callable[[], int | None] = lambda: None,
    epochs: Callable[[], int] = lambda: 0,
) -> tuple[dict[str, Any], bool]:
    """Make a schedule, and find out whether it advances per step or per epoch.

    A schedule that takes ``total_steps``, as `WarmupCosine` and ``OneCycleLR``, or
    ``num_training_steps``, as those of Transformers, is given the run's length unless it has one,
    and advances per step. Other schedules of torch advance per epoch, as its manual has them.

    Args:
        factory: Makes the scheduler, or the dict that Lightning documents, from an optimiser: a
            class, a ``functools.partial``, a function, or what the command line makes of a class
            path.
        optimizer: The optimiser.
        count: Gives the optimiser steps of the run.
        probe: Gives the steps before the strategy first thaws, for a schedule that takes
            ``probe_steps``.
        epochs: Gives the epochs of the run; 0 or less if nobody knows.

    Returns:
        Lightning's configuration of the scheduler, with ``interval``, and whether it was given
        the length of the run.

    Raises:
        ValueError: If its unit cannot be known, or the dict has other keys or values.
    """
    classes = [a for a in getattr(factory, "args", ()) if isinstance(a, type)]
    target = classes[-1] if classes else getattr(factory, "func", factory)
    takes = inspect.signature(target).parameters
    given = getattr(factory, "keywords", {})
    lengths = [name for name in _LENGTHS if name in takes]
    if given.keys() >= {"epochs", "steps_per_epoch"}:  # the length, in OneCycleLR's other words
        lengths = []
    fill: dict[str, int | None] = {name: count() for name in lengths if given.get(name) is None}
    filled = dict(fill)
    if "probe_steps" in takes and given.get("probe_steps") is None:
        fill["probe_steps"] = probe()
    made = factory(optimizer, **fill)
    config = dict(made) if isinstance(made, Mapping) else {"scheduler": made}
    scheduler = config.get("scheduler")
    if not isinstance(scheduler, LRScheduler | ReduceLROnPlateau):
        raise ValueError(  # noqa: TRY004 - a setting of the run
            f"`scheduler` made a {type(scheduler).__name__}; expected a scheduler of "
            'torch.optim.lr_scheduler, or {"scheduler": one, "interval": "step"}.'
        )
    if unknown := sorted(set(config) - _KEYS):
        raise ValueError(
            f"The schedule's dict has the keys {', '.join(unknown)}; known are "
            f"{', '.join(sorted(_KEYS))}."
        )
    if "interval" not in config:
        config["interval"] = "step" if _IN_STEPS & set(takes) else _unit_of(scheduler)
        if config["interval"] == "epoch":
            _refuse_steps(scheduler, epochs, count)
    if config["interval"] not in ("step", "epoch"):
        raise ValueError(
            f"The `interval` of a schedule must be step or epoch, got {config['interval']!r}."
        )
    once = config["interval"] == "step" and config.get("frequency", 1) == 1
    if filled and not once:
        raise ValueError(
            f"The schedule was given the steps of the run as `{next(iter(filled))}`, and advances "
            f"every {config.get('frequency', 1)} {config['interval']}(s): it would never end. Let "
            "it advance every step, or give it its length."
        )
    return {"name": "lr", **config}, bool(fill)


def _refuse_steps(scheduler: object, epochs: Callable[[], int], count: Callable[[], int]) -> None:
    """Refuse a schedule per epoch that is as long as the run has steps; warn of any too long.

    Raises:
        ValueError: If it is.
    """
    lengths = {name: getattr(scheduler, name, None) for name in _DURATIONS}
    if isinstance(scheduler, MultiStepLR):
        lengths["milestones"] = min(scheduler.milestones, default=None)
    for name, length in lengths.items():
        if not isinstance(length, int) or not 0 < (run := epochs()) < length:
            continue
        said = f"{type(scheduler).__name__} advances per epoch, and its `{name}` of {length}"
        if length == count():
            raise ValueError(f"{said} is the steps of this run of {run} epochs: {_ASK}.")
        rank_zero_warn(
            f"{said} lies beyond the {run} epochs of this run. If it counts steps, {_ASK}."
        )


def _unit_of(scheduler: object) -> str:
    """Return ``step`` or ``epoch``, by the class of a schedule.

    Raises:
        ValueError: If the class does not tell.
    """
    kind = type(scheduler)
    if isinstance(unit := getattr(kind, "interval", None), str):
        return unit
    if isinstance(scheduler, _PER_STEP):
        return "step"
    if set(_LENGTHS) & set(inspect.signature(kind).parameters):
        return "step"
    of_torch = isinstance(scheduler, ReduceLROnPlateau) or kind.__module__ == _TORCHS
    if not of_torch or isinstance(scheduler, _OPEN):
        raise ValueError(
            f"Whether the schedule {kind.__name__} advances per step or per epoch cannot be known: "
            f"{_ASK}."
        )
    return "epoch"
