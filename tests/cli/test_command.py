from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.profilers import SimpleProfiler

from tl.callbacks import NoProfiler, RunProgressBar
from tl.cli import main
from tl.cli.command import TlCLI


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    """The Trainers that the command line makes."""
    found: list[Trainer] = []
    original = TlCLI.instantiate_trainer

    def spy(self: TlCLI, **kwargs: Any) -> Trainer:
        found.append(original(self, **kwargs))
        return found[-1]

    monkeypatch.setattr(TlCLI, "instantiate_trainer", spy)
    return found


def fit(folder: Path, *more: str) -> None:
    main(
        [
            "fit",
            "--config=configs/multitask.yaml",
            "--config=configs/overlays/quick.yaml",
            "--trainer.fast_dev_run=1",
            "--data.init_args.generated_size=200",
            f"--log_dir={folder}",
            *more,
        ]
    )


def test_a_profiler_that_is_asked_for_works(tmp_path: Path, made: list[Trainer]) -> None:
    fit(tmp_path)
    fit(tmp_path, "--trainer.profiler=simple")
    kinds = [type(trainer.profiler) for trainer in made]  # type: ignore[attr-defined]
    assert kinds == [NoProfiler, SimpleProfiler]


def test_a_bar_of_the_user_s_takes_the_place_of_ours(tmp_path: Path, made: list[Trainer]) -> None:
    fit(tmp_path, "--trainer.enable_progress_bar=true")
    fit(tmp_path, "--trainer.callbacks+=lightning.pytorch.callbacks.TQDMProgressBar")
    fit(tmp_path, "--trainer.enable_progress_bar=false")
    fit(tmp_path)  # output goes to a file
    bars = [type(trainer.progress_bar_callback) for trainer in made]
    assert bars == [RunProgressBar, TQDMProgressBar, type(None), type(None)]
