"""What callbacks that write to TensorBoard share: the writer, and what the data tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from tl.private.torch import file_writer


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer, in the first process of a run that has one."""
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    found = next((lo for lo in trainer.loggers if isinstance(lo, TensorBoardLogger)), None)
    return found.experiment if found is not None else None


def add_summaries(writer: SummaryWriter, *summaries: Any) -> None:  # noqa: ANN401 - protobuf
    """Write summaries that the writer has no method for, as Lightning's logger does."""
    for summary in summaries:
        file_writer(writer).add_summary(summary)


def statistics_of(trainer: Trainer, source: str | None) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation that a source's images were normalised by, if it tells."""
    data = getattr(trainer, "datamodule", None)
    sources = getattr(data, "sources", None)
    owner = sources.get(source) if isinstance(sources, Mapping) else data
    found: tuple[Tensor, Tensor] | None = getattr(owner, "statistics", None)
    return found


def class_names_of(trainer: Trainer, task: str) -> list[str] | None:
    """Class names of a task from the data, if these tell."""
    names = getattr(getattr(trainer, "datamodule", None), "class_names", {})
    found = names.get(task) or (next(iter(names.values())) if len(names) == 1 else None)
    return list(found) if found else None


def as_markdown(content: Mapping[str, Any]) -> str:
    """Show plain types as an indented block."""
    return as_block(json.dumps(content, indent=2, default=str))


def as_block(text: str) -> str:
    """Show a text as an indented block of Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())
