from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.small import module, tiny_data, trainer
from tl.callbacks.progress import RunProgressBar


def test_the_bar_is_brought_up_to_date_every_n_steps_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    data = tiny_data(batch_size=10)  # 11 steps
    bar = RunProgressBar(every_n_steps=4)
    original = bar._update_metrics

    def update(trainer: Any, pl_module: Any, *more: Any, **named: Any) -> None:
        asked.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        original(trainer, pl_module, *more, **named)

    monkeypatch.setattr(bar, "_update_metrics", update)
    run = trainer(tmp_path, callbacks=[bar], enable_progress_bar=True, limit_val_batches=0)
    run.fit(module(data), data)
    assert asked[:3] == [4, 8, 11]


def test_a_pace_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="`every_n_steps` must be 1 or more, got 0"):
        RunProgressBar(every_n_steps=0)
