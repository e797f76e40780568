"""Hyperparameters in checkpoints, as plain types that load without executing code."""

from __future__ import annotations

import inspect
from types import FrameType

from lightning.pytorch import LightningModule

from tl.private.lightning import INSTANTIATOR, settle_hyperparameters
from tl.tasks import as_task

OBJECTS = ["backbone", "optimizer", "scheduler", "balancer", "strategy", "penalties"]


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


def arguments_of(kind: type[LightningModule]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a module's constructor, with those that it passes to its base.

    Args:
        kind: The class of the module.
    """
    found: dict[str, inspect.Parameter] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each):
            continue
        given = inspect.signature(vars(each)["__init__"]).parameters
        passes_on = any(p.kind is p.VAR_KEYWORD for p in given.values())
        own = {n: p for n, p in given.items() if p.kind is not p.VAR_KEYWORD and n != "self"}
        if found:
            own = {name: p for name, p in own.items() if p.kind is p.KEYWORD_ONLY}
        found |= {name: p for name, p in own.items() if name not in found}
        if not passes_on:
            break
    return found
