"""What a run prints: its bar, its header and its table of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelSummary, ProgressBar

from tl.callbacks import EpochTable, RunHeader, RunProgressBar
from tl.callbacks.progress import bar_is_readable


def printing(
    asked: Any,  # noqa: ANN401 - jsonargparse's namespace
    callbacks: Sequence[Callback],
    *,
    trains: bool,
    ours: bool,
) -> dict[str, Any]:
    """Return the Trainer's options for what a run prints.

    Args:
        asked: The Trainer's options as the user set them.
        callbacks: The user's, whose bar and summary replace ours.
        trains: Whether the run trains.
        ours: Whether the module is one of tl.modules.
    """
    options: dict[str, Any] = {}
    added: list[Callback] = []
    own_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    wants_bar = asked.enable_progress_bar or asked.enable_progress_bar is None
    if not own_bar and asked.enable_progress_bar is None and not bar_is_readable():
        options["enable_progress_bar"] = wants_bar = False  # a file gets lines only
    if wants_bar and not own_bar:
        added.append(RunProgressBar())
    own_table = any(isinstance(callback, ModelSummary) for callback in callbacks)
    wants_table = asked.enable_model_summary is not False and not own_table
    if ours and wants_table:
        options["enable_model_summary"] = False  # ours replaces it
    if trains:
        added.append(RunHeader(table=ours and wants_table))
    # in an evaluation too: Lightning warns of a callback whose state a checkpoint has
    return {**options, "callbacks": [*callbacks, *added, EpochTable()]}
