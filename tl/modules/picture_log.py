"""Pictures and texts of a run, for every logger that takes them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from tl.private.torch import file_writer
from tl.tasks.figures import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CHANNELS = 4  # of a figure as PNG
#: Breaks a line within a cell of a table in Markdown, for TensorBoard.
BREAK = "<br>"


def takers(trainer: Trainer) -> list[Logger]:
    """Return the loggers that take pictures and texts: none but in the first process.

    These are TensorBoard, Weights & Biases and MLflow; none in a ``fast_dev_run``.
    """
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return []
    kinds = (TensorBoardLogger, WandbLogger, MLFlowLogger)
    return [logger for logger in trainer.loggers if isinstance(logger, kinds)]


def log_figure(trainer: Trainer, tag: str, figure: Figure, step: int) -> None:
    """Show a figure.

    Args:
        trainer: The Trainer, for its loggers.
        tag: What it is called, such as ``val/confusion/cifar10``.
        figure: The figure; drawn once.
        step: Optimizer steps so far.
    """
    if takers(trainer):
        log_png(trainer, tag, png(figure), step)


def log_png(trainer: Trainer, tag: str, content: bytes, step: int) -> None:
    """Show the content of a PNG file, as :func:`tl.tasks.figures.png` returns it."""
    for logger in takers(trainer):
        if isinstance(logger, TensorBoardLogger):
            wide, high = Image.open(BytesIO(content)).size
            image = Summary.Image(
                height=high, width=wide, colorspace=_CHANNELS, encoded_image_string=content
            )
            summary = Summary(value=[Summary.Value(tag=tag, image=image)])
            file_writer(logger.experiment).add_summary(summary, step)
        else:
            _send(logger, tag, lambda: Image.open(BytesIO(content)).convert("RGB"), step)


def log_image(trainer: Trainer, tag: str, image: Tensor, step: int) -> None:
    """Show an image ``(3, H, W)`` in [0, 1]."""

    def drawn() -> Image.Image:
        pixels = (image.detach().float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())

    for logger in takers(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, image, step)
        else:
            _send(logger, tag, drawn, step)


def _send(logger: Any, tag: str, drawn: Callable[[], Image.Image], step: int) -> None:  # noqa: ANN401 - W&B's or MLflow's
    def act() -> None:
        if isinstance(logger, WandbLogger):
            logger.log_image(tag, [drawn()], step)
        else:
            logger.experiment.log_image(logger.run_id, drawn(), key=tag, step=step)

    _or_warn(logger, tag, act)


def log_text(trainer: Trainer, tag: str, text: str, step: int | None = None) -> None:
    """Show a text in Markdown.

    Args:
        trainer: The Trainer, for its loggers.
        tag: What it is called, such as ``run/data``.
        text: The text.
        step: Optimizer steps so far; ``None`` for what holds for the whole run.
    """
    for logger in takers(trainer):
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(tag, text, step)
        else:
            plain = text.replace(BREAK, " ")
            _or_warn(logger, tag, lambda: _send_text(logger, tag, plain, step))  # noqa: B023 - called at once


def _send_text(logger: Any, tag: str, text: str, step: int | None) -> None:  # noqa: ANN401 - as above
    if isinstance(logger, WandbLogger):
        html = import_module("wandb").Html  # its logger could not be built without it
        # a picture may have the same tag, and a key has one kind of content
        shown = {f"{tag}/text": html(f"<pre>{escape(text)}</pre>")}
        logger.log_metrics(shown, step or 0)  # takes media as well
    else:
        number = "" if step is None else f"_{step}"
        logger.experiment.log_text(logger.run_id, text, f"text/{tag}{number}.md")


def _or_warn(logger: Logger, tag: str, act: Callable[[], None]) -> None:
    """Call a function; what a service refuses does not end a run."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever the service raises
        rank_zero_warn(f"{type(logger).__name__} did not take {tag}: {error}")
