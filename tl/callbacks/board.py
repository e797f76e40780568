"""Shared by callbacks that write to TensorBoard: the writer, and what the data publish."""

from __future__ import annotations

import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from tl.callbacks.surroundings import data_of
from tl.modules.picture_log import BREAK
from tl.private.torch import file_writer

_WIDTH = 80  # characters of a value in a table


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """Return TensorBoard's writer in the first process; ``None`` in others and without one."""
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    found = next((lo for lo in trainer.loggers if isinstance(lo, TensorBoardLogger)), None)
    return found.experiment if found is not None else None


def add_summaries(writer: SummaryWriter, *summaries: Any) -> None:  # noqa: ANN401 - protobuf
    """Write summaries that the writer has no method for, as Lightning's logger does."""
    for summary in summaries:
        file_writer(writer).add_summary(summary)


def statistics_of(trainer: Trainer, source: str | None) -> tuple[Tensor, Tensor] | None:
    """Return the mean and standard deviation a source's images are normalised by, if known."""
    found: tuple[Tensor, Tensor] | None = getattr(data_of(trainer, source), "statistics", None)
    return found


def class_names_of(trainer: Trainer, task: str) -> list[str] | None:
    """Return the class names of a task, if the data publish them."""
    names = getattr(getattr(trainer, "datamodule", None), "class_names", {})
    found = names.get(task) or (next(iter(names.values())) if len(names) == 1 else None)
    return list(found) if found else None


def image_grid(images: Tensor, columns: int = 8) -> Tensor:
    """Lay images ``(N, 3, H, W)`` in [0, 1] out as one picture; enlarge small ones."""
    scale = max(1, 64 // images.shape[-1])
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid: Tensor = make_grid(large, nrow=columns, padding=2, pad_value=1.0)
    return grid


def as_markdown(content: Mapping[str, Any]) -> str:
    """Show plain types as a table, a row per value, named by the keys that lead to it."""
    rows = [(" / ".join(path), _lines(said)) for path, said in _rows(content)]
    lines = [f"| {name} | {said} |" for name, said in rows]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _lines(said: str) -> str:
    """Break a long value: TensorBoard would break the names beside it between any two letters."""
    return BREAK.join(textwrap.wrap(said, _WIDTH, break_on_hyphens=False)) or said


def _rows(content: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _rows(value, (*path, _cell(key)))
    elif isinstance(content, list | tuple) and any(isinstance(part, Mapping) for part in content):
        for number, part in enumerate(content):
            yield from _rows(part, (*path, str(number)))
    elif isinstance(content, list | tuple):
        yield path, ", ".join(map(_cell, content))
    else:
        yield path, _cell(content)


def _cell(value: object) -> str:
    said = f"{value:.6g}" if isinstance(value, float) else str(value)
    return said.replace("|", r"\|")


def how_started() -> dict[str, str]:
    """Return the command, and the git commit of the folder that it was started in, if any."""
    first, *words = sys.argv
    as_module = Path(first) == Path(__file__).parents[1] / "cli" / "__main__.py"
    begin = ["python", "-m", "tl.cli"] if as_module else [first]
    found = {"command": shlex.join([*begin, *words])}
    try:
        git = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
            timeout=5,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or no commit here
        return found
    return {**found, "commit": git.stdout.strip()}


def as_block(text: str) -> str:
    """Show a text as an indented block of Markdown."""
    return "\n".join(f"    {line}" for line in text.splitlines())
