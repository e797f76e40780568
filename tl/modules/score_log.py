"""Which losses and scores are averaged over tasks, and which the progress bar shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from tl.tasks import Task

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


def shared_scores(tasks: Iterable[Task]) -> list[str]:
    """Return the scores that all tasks have, whose mean over the tasks is logged."""
    names = [list(task.scores()) for task in tasks]
    return [name for name in names[0] if all(name in each for each in names)]


def bar_names(split: str, tasks: Iterable[Task], shared: Iterable[str]) -> set[str]:
    """Return the names of the values that the progress bar shows."""
    decide = {task.score for task in tasks}
    return {f"{split}/{what}" for what in ("loss", *shared) if what in decide} | {f"{split}/loss"}


def log_reduced(module: SharedBackboneModule, values: Mapping[str, Tensor], bar: set[str]) -> None:
    """Log values that are equal in all processes, and show some of them in the progress bar."""
    # they are reduced; `sync_dist` keeps Lightning from warning that they might not be
    for shown in (False, True):
        some = {name: value for name, value in values.items() if (name in bar) == shown}
        module.log_dict(some, sync_dist=True, prog_bar=shown, add_dataloader_idx=False)
