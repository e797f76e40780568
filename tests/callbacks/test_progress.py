from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from tests.small import module, tiny_data, trainer
from tl.callbacks.progress import RunProgressBar, few


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


def test_few_rounded_values_stand_beside_the_bar() -> None:
    logged = {
        "v_num": 0,
        "val/loss": 9.42123,
        "val/acc": 0.04512,
        "train/loss": 7.53811,
        "train/acc": 0.0571,
        "img/s": 3401.3,
        "data": 0.004,
        "MB": 1184.4,
        "mfu": 0.72,
    }
    assert few(logged) == {"loss": "7.54", "val acc": "0.0451", "img/s": "3,401"}
    assert few({"v_num": 3, "val_loss": 0.25}) == {"val_loss": "0.25"}, "of another module"


def test_the_bar_fits_a_line_of_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=80, file=StringIO(), force_terminal=True)
    monkeypatch.setattr("tl.callbacks.progress.get_console", lambda: console)
    bar = RunProgressBar()
    run = trainer(tmp_path, callbacks=[bar], enable_progress_bar=True, max_epochs=100)
    bar.setup(run, module(tiny_data()), "fit")
    shown = few({"train/loss": 7.538, "val/acc": 0.0451, "img/s": 13401.0})
    # as Lightning writes them
    values = TextColumn(" ".join(f"{name}: {value}" for name, value in shown.items()))
    progress = Progress(*bar.configure_columns(run), values, console=console)
    progress.add_task(bar._get_train_description(99), total=10_000, completed=9_999)
    [line] = console.render_lines(progress.get_renderable(), pad=False)
    text = "".join(segment.text for segment in line)
    assert text.startswith("epoch 100/100 ")
    for part in (" 9999/10000 ", "loss: 7.54 val acc: 0.0451 img/s: 13,401"):
        assert part in text
