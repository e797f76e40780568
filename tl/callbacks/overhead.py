"""Skip work that Lightning does at every step without effect."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler

_PER_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
)


class NoProfiler(PassThroughProfiler):
    """Profile nothing, without a generator for each of a step's ninety or so hooks.

    Lightning's PassThroughProfiler enters a context for each hook: a thousand Python calls a step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._nothing = nullcontext("")

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]
        """Return a context that does nothing."""
        del action_name
        return self._nothing


def leave_out_empty_hooks(callbacks: Iterable[Callback]) -> None:
    """Make Lightning skip the step hooks that a callback does not define.

    Lightning calls every callable hook, including the base class's empty ones.

    Args:
        callbacks: The Trainer's callbacks; only these objects change, not their classes.
    """
    for callback in callbacks:
        for name in _PER_STEP:
            empty = getattr(type(callback), name) is getattr(Callback, name)
            if empty and name not in vars(callback):  # set on the instance, as in `LambdaCallback`
                setattr(callback, name, None)
