"""Hyperparameters in checkpoints, as plain types that load without executing code."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from inspect import Parameter
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn

from tl.data.options import arguments_of
from tl.private.lightning import INSTANTIATOR, settle_hyperparameters
from tl.tasks import Task, as_task

OBJECTS = ["backbone", "optimizer", "scheduler", "balancer", "strategy", "penalties"]


def plain_hyperparameters(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint stores of hyperparameters that a subclass may have added to.

    Tasks become records. Values without a plain form are left out, as `backbone` is: they are
    passed to ``load_from_checkpoint`` again.

    Args:
        hparams: The hyperparameters.
    """
    found = {}
    for key, value in hparams.items():
        plain = value
        if key == "task" and isinstance(value, Task):
            plain = value.record()
        elif key == "tasks" and isinstance(value, list | tuple):
            plain = [task.record() if isinstance(task, Task) else task for task in value]
        if _loads(plain):
            found[key] = plain
    return found


def tell_left_out(kind: type[LightningModule], values: Mapping[str, Any]) -> None:
    """Warn of arguments that ``load_from_checkpoint`` would silently set to their defaults.

    Args:
        kind: The module's class.
        values: Hyperparameters without a plain form.
    """
    arguments = arguments_of(kind)
    optional = [
        f"`{key}`"
        for key, value in values.items()
        if key in arguments
        and key not in OBJECTS
        and not _is_default(value, arguments[key].default)
    ]
    if optional:
        rank_zero_warn(
            f"Checkpoints leave out {', '.join(optional)} of {kind.__name__}: without a plain "
            "form, such values must be passed to `load_from_checkpoint` again, which takes the "
            "default otherwise."
        )


def _is_default(value: object, default: object) -> bool:
    """Return whether leaving a value out changes nothing; without a default it is missed aloud."""
    if default is Parameter.empty or value is default:
        return True
    try:
        return bool(value == default)
    except Exception:  # noqa: BLE001 - other people's comparison, which may raise anything
        return False


def _loads(value: object) -> bool:
    """Return whether a value loads again without executing code."""
    if value is None or isinstance(value, bool | int | float | str):
        return True
    if isinstance(value, torch.nn.Module):
        return False  # whatever its size
    stored = io.BytesIO()
    try:
        torch.save(value, stored)
        stored.seek(0)
        torch.load(stored, weights_only=True)
    except (pickle.PickleError, AttributeError, TypeError, RuntimeError):
        return False
    return True


def keep_hyperparameters(module: LightningModule, frame: FrameType | None) -> None:
    """Store the arguments of a module's constructor.

    Modules built by the command line store their whole configuration; for those built in Python,
    pass backbone, optimizer, scheduler, balancer, strategy and penalties to
    ``load_from_checkpoint`` again.

    Args:
        module: The module; changed in place.
        frame: Frame of its constructor, which holds the arguments.
    """
    module.save_hyperparameters(ignore=OBJECTS, frame=frame)
    if INSTANTIATOR in module.hparams:  # the command line's, where objects are class paths
        module.save_hyperparameters(frame=frame)
    arguments = arguments_of(type(module))
    for key, parameter in arguments.items():  # including those left at their defaults
        if key in module.hparams or key not in OBJECTS:
            module.hparams[key] = module.hparams.pop(key, parameter.default)
    for key, value in list(module.hparams.items()):
        if not key.startswith("_") and key not in arguments:
            del module.hparams[key]  # linked from the data, but not an argument of this class
        elif key == "task":
            module.hparams[key] = as_task(value).record()
        elif key == "tasks":
            module.hparams[key] = [as_task(task).record() for task in value]
        elif isinstance(value, tuple):
            module.hparams[key] = list(value)
    setattr(module, "_built", True)  # noqa: B010 - the last step of a constructor
    settle_hyperparameters(module)
