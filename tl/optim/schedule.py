"""Learning rate over the steps of a run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    MultiplicativeLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from tl.counting import counted


class WarmupCosine(LambdaLR):
    """Warm up linearly, then decay along half a cosine (Loshchilov & Hutter, 2017, equation 5).

    ``lr(t) = base * (t + 1) / w`` for ``t < w``, after that
    ``base * (final + (1 - final) / 2 * (1 + cos(pi * (t - w) / (total - w))))``.

    Args:
        optimizer: The optimizer.
        total_steps: Optimizer steps of the whole run; filled in from the Trainer.
        warmup: Fraction of the steps used for warm-up, at least 0 and below 1.
        final: Final learning rate as a fraction of the base rate, 0 to 1.

    Raises:
        ValueError: If `total_steps` is not positive or a fraction is out of range.
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
            raise ValueError(f"`final` must be from 0 to 1, got {final}.")
        rise = round(total_steps * warmup)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            progress = min(1.0, (step - rise) / max(1, total_steps - rise))
            return final + (1 - final) / 2 * (1 + math.cos(math.pi * progress))

        super().__init__(optimizer, factor)


_TORCHS = LRScheduler.__module__
#: Schedule arguments that give the optimizer steps of the whole run.
_LENGTHS = ("total_steps", "num_training_steps")
#: Arguments that only step-based schedules have.
_IN_STEPS = frozenset({*_LENGTHS, "num_warmup_steps", "steps_per_epoch"})
#: Attributes of torch's schedules that hold a time at which they change, in either unit.
_TIMES = ("T_max", "total_iters", "T_0", "step_size", "milestones")
_PER_STEP = (OneCycleLR, CyclicLR)
#: Schedules built from functions or other schedules, whose unit only their author knows.
_OPEN = (LambdaLR, MultiplicativeLR, SequentialLR, ChainedScheduler)
_KEYS = {"scheduler", "interval", "frequency", "monitor", "strict", "name", "reduce_on_plateau"}
_ASK = (
    'return {"scheduler": ..., "interval": "step"} or {..., "interval": "epoch"}, or set '
    "`scheduler_interval` to step or epoch"
)


def build_schedule(
    factory: Callable[..., Any],
    optimizer: Optimizer,
    count: Callable[[], int],
    probe: Callable[[], int | None] = lambda: None,
    epochs: Callable[[], int] = lambda: 0,
    interval: str | None = None,
) -> tuple[dict[str, Any], bool]:
    """Create a schedule, and determine whether it advances per step or per epoch.

    A schedule that takes ``total_steps``, such as `WarmupCosine` and ``OneCycleLR``, or
    ``num_training_steps``, like those of Transformers, receives the run's length unless it has one,
    and advances per step. Other schedules of torch advance per epoch, as in its documentation. A
    class can declare its unit with an attribute ``interval``.

    Args:
        factory: Creates the scheduler, or the dict that Lightning documents, from an optimizer: a
            class, a ``functools.partial``, a function, or what the command line builds from a class
            path.
        optimizer: The optimizer.
        count: Returns the optimizer steps of the run.
        probe: Returns the steps before the strategy first unfreezes a stage, for schedules that
            take ``probe_steps``.
        epochs: Returns the epochs of the run; 0 or less if unknown.
        interval: ``step`` or ``epoch``, if the user sets it beside the factory.

    Returns:
        Lightning's configuration of the scheduler, with ``interval``, and whether it received the
        length of the run.

    Raises:
        ValueError: If its unit is unknown, the dict has invalid keys or values, or the schedule
            belongs to another optimizer.
    """
    classes = [a for a in getattr(factory, "args", ()) if isinstance(a, type)]
    target = classes[-1] if classes else getattr(factory, "func", factory)
    takes = inspect.signature(target).parameters
    given = getattr(factory, "keywords", {})
    lengths = [name for name in _LENGTHS if name in takes]
    if given.keys() >= {"epochs", "steps_per_epoch"}:  # the length, for OneCycleLR
        lengths = []
    fill: dict[str, int | None] = {name: count() for name in lengths if given.get(name) is None}
    filled = dict(fill)
    if "probe_steps" in takes and given.get("probe_steps") is None:
        fill["probe_steps"] = probe()
    made = factory(optimizer, **fill)
    config = dict(made) if isinstance(made, Mapping) else {"scheduler": made}
    scheduler = _checked(config, optimizer, interval)
    if config["interval"] is None:
        unit = "step" if _IN_STEPS & set(takes) else _unit_of(scheduler)
        own = {name: given[name] for name in lengths if name not in fill}
        _ask_about_lengths(scheduler, own, unit, epochs, count)
        config["interval"] = unit
    frequency = config.get("frequency", 1)
    once = config["interval"] == "step" and frequency == 1
    if filled and not once:
        raise ValueError(
            f"The schedule received the steps of the run as `{next(iter(filled))}`, but advances "
            f"every {frequency} {config['interval']}(s), so it would never end. Let it advance "
            "every step, or set its length."
        )
    return {"name": "lr", **config}, bool(fill)


def _checked(
    config: dict[str, Any], optimizer: Optimizer, interval: str | None
) -> LRScheduler | ReduceLROnPlateau:
    """Check Lightning's scheduler configuration, and fill in its defaults.

    Raises:
        ValueError: If a key or a value is invalid, or the schedule belongs to another optimizer.
    """
    scheduler = config.get("scheduler")
    if not isinstance(scheduler, LRScheduler | ReduceLROnPlateau):
        raise ValueError(  # noqa: TRY004 - a setting of the run
            f"`scheduler` created a {type(scheduler).__name__}; expected a scheduler of "
            'torch.optim.lr_scheduler, or {"scheduler": one, "interval": "step"}.'
        )
    if unknown := sorted(set(config) - _KEYS):
        raise ValueError(
            f"The schedule's dict has the unknown keys {', '.join(unknown)}; known are "
            f"{', '.join(sorted(_KEYS))}."
        )
    if scheduler.optimizer is not optimizer:
        raise ValueError(
            f"The schedule {type(scheduler).__name__} belongs to another optimizer and would have "
            "no effect; build it from the optimizer that `scheduler` is called with."
        )
    frequency = config.get("frequency", 1)
    if type(frequency) is not int or frequency < 1:
        raise ValueError(f"The `frequency` of a schedule must be 1 or more, got {frequency!r}.")
    if config.setdefault("interval", interval) not in (None, "step", "epoch"):
        raise ValueError(
            f"The `interval` of a schedule must be step or epoch, got {config['interval']!r}."
        )
    if interval not in (None, config["interval"]):
        raise ValueError(
            f"The schedule's dict has the interval {config['interval']}, but `scheduler_interval` "
            f"is {interval}; set only one."
        )
    return scheduler


def _ask_about_lengths(
    scheduler: object,
    lengths: Mapping[str, int],
    interval: str,
    epochs: Callable[[], int],
    count: Callable[[], int],
) -> None:
    """Ask for the unit if the class's default does not fit the length of the run.

    Args:
        scheduler: The schedule.
        lengths: Lengths in steps that it received, by argument name.
        interval: Its unit according to its class.
        epochs: Returns the epochs of the run.
        count: Returns the steps of the run.

    Raises:
        ValueError: If a schedule per epoch changes after the last epoch, or one per step ends
            within the number of epochs.
    """
    name = type(scheduler).__name__
    for key, length in _times(scheduler).items() if interval == "epoch" else ():
        if 0 < (last := epochs()) < length:
            raise ValueError(
                f"{name} advances per epoch by default, and its `{key}` of {length} is beyond the "
                f"{counted(last, 'epoch')} of this run; if it counts steps, set that: {_ASK}."
            )
    for key, length in lengths.items() if interval == "step" else ():
        if length <= epochs() < count():
            raise ValueError(
                f"{name} advances per step, and its `{key}` of {length} is at most the number of "
                f"epochs ({epochs()}) of this run, which has {counted(count(), 'step')}; state "
                "the unit: "
                f"{_ASK}."
            )


def _times(scheduler: object) -> dict[str, int]:
    """Return the attribute that holds the last change of a torch schedule, with its value."""
    found = {name: getattr(scheduler, name, None) for name in _TIMES}
    # milestones are a Counter
    last = {n: max(t, default=0) if isinstance(t, Iterable) else t for n, t in found.items()}
    return {name: time for name, time in last.items() if isinstance(time, int)}


def refuse_changing_steps(
    trainer: Trainer, factory: object, schedule: object, *, filled: bool
) -> None:
    """Refuse a whole-run schedule if a callback changes the number of steps.

    A schedule with an explicit length may be as long as the run will be, or end earlier.

    Args:
        trainer: The Trainer, with its callbacks.
        factory: Creates the schedule.
        schedule: The schedule.
        filled: Whether it received the number of steps of a run without the callback.

    Raises:
        ValueError: If its length does not match the run.
    """
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    changing = [c for c in callbacks if isinstance(c, GradientAccumulationScheduler)]
    given = {**vars(schedule), **getattr(factory, "keywords", {})}
    length = next((n for name in _LENGTHS if isinstance(n := given.get(name), int)), None)
    if not changing or not (filled or length):
        return
    trainer.fit_loop.setup_data()
    batches, epochs = trainer.num_training_batches, range(trainer.max_epochs or 0)
    steps = 0  # unknown
    if math.isfinite(batches):
        steps = sum(math.ceil(batches / changing[0].get_accumulate_grad_batches(e)) for e in epochs)
    guesses = {len(epochs) * math.ceil(batches / n) for n in (1, trainer.accumulate_grad_batches)}
    if filled or (steps and length != steps and (length in guesses or (length or 0) > steps)):
        raise ValueError(
            f"GradientAccumulationScheduler changes the number of steps, which "
            f"{type(schedule).__name__} depends on; set `trainer.accumulate_grad_batches` instead, "
            f"or set the schedule's number of steps{f', {steps} in this run' if steps else ''}."
        )


def _unit_of(scheduler: object) -> str:
    """Return ``step`` or ``epoch``, depending on the class of a schedule.

    Raises:
        ValueError: If the class does not determine it.
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
            f"Cannot tell whether the schedule {kind.__name__} advances per step or per epoch: "
            f"{_ASK}."
        )
    return "epoch"
