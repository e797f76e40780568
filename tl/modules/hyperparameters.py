"""Hyperparameters in checkpoints, as plain types that load without unpickling code."""

from __future__ import annotations

from types import FrameType

from lightning.pytorch import LightningModule

from tl.data.options import arguments_of
from tl.private.lightning import INSTANTIATOR, settle_hyperparameters
from tl.tasks import as_task

__all__ = ["OBJECTS", "arguments_of", "keep_hyperparameters"]
OBJECTS = ["backbone", "optimizer", "scheduler", "balancer", "strategy", "penalties"]


def keep_hyperparameters(module: LightningModule, frame: FrameType | None) -> None:
    """Keep the arguments of a module's constructor.

    Modules that the command line builds keep their whole configuration; to those built in Python,
    ``load_from_checkpoint`` must be given backbone, optimiser, scheduler, balancer, strategy and
    penalties again.

    Args:
        module: The module; changed in place.
        frame: Its constructor's frame, where the arguments are found.
    """
    module.save_hyperparameters(ignore=OBJECTS, frame=frame)
    if INSTANTIATOR in module.hparams:  # the command line's, where objects are class paths
        module.save_hyperparameters(frame=frame)
    arguments = arguments_of(type(module))
    for key, parameter in arguments.items():  # also those left at their defaults
        if key in module.hparams or key not in OBJECTS:
            module.hparams[key] = module.hparams.pop(key, parameter.default)
    for key, value in list(module.hparams.items()):
        if not key.startswith("_") and key not in arguments:
            del module.hparams[key]  # a link from the data that this class does not take
        elif key == "task":
            module.hparams[key] = as_task(value).record()
        elif key == "tasks":
            module.hparams[key] = [as_task(task).record() for task in value]
        elif isinstance(value, tuple):
            module.hparams[key] = list(value)
    setattr(module, "_built", True)  # noqa: B010 - ours, and the last that a constructor does
    settle_hyperparameters(module)
