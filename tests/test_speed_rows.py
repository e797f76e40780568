"""The benchmark's rows for a GPU in their smallest form on a CPU, its options and its clocks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scripts import benchmark
from scripts.speed import loops, runs, whole
from tl import MultiTaskModule

DATA = ["--data.init_args.images=generated", "--data.init_args.generated_size=200"]
SMALL = [*DATA, "--data.init_args.batch_size=50", "--trainer.devices=1"]
SMALL += ["--model.init_args.backbone=tl.backbones.ResNet20", "--trainer.accelerator=cpu"]
SMALL += ["--dashboard.graph=false"]


@pytest.mark.filterwarnings("ignore")
def test_steps_are_timed_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {name: given for name, given in whole._KINDS.items() if "compile" not in name}
    monkeypatch.setattr(whole, "_KINDS", kinds)

    def arguments(folder: Path, epochs: int) -> list[str]:
        less = ["--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0"]
        more = [f"--log_dir={folder}", "--trainer.log_every_n_steps=2"]
        return [*SMALL, f"--trainer.max_epochs={epochs}", *less, *more]

    found = whole.captured(arguments, 1, 1)
    assert found["eager"]
    assert found["eager, captured"] is None  # nothing is captured without a GPU


@pytest.mark.filterwarnings("ignore")
def test_the_whole_run_ends_with_test_scores() -> None:
    found = whole.whole([*SMALL, "--trainer.max_epochs=1"])
    assert found["epochs"] == 1
    assert {"test/cifar10/acc", "test/cifar100/acc"} <= found["test"].keys()
    lines = whole.as_markdown({"eager": 0.5, "eager, captured": None}, 8, found)
    assert "| eager | 16 |" in lines
    assert "| eager, captured | no step was captured |" in lines
    assert any(line.startswith("| test/cifar10/acc | 0.") for line in lines)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", ["A", "B", "C"])
def test_the_first_step_is_noted_before_the_second_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    kind, name = {
        "A": (loops.Bare, "_step"),
        "B": (MultiTaskModule, "training_step"),
        "C": (runs.Usual, "training_step"),
    }[variant]
    began: list[float] = []
    honest = getattr(kind, name)

    def noted(*given: Any, **named: Any) -> Any:
        began.append(time.time())
        return honest(*given, **named)

    monkeypatch.setattr(kind, name, noted)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--smoke", f"--child={variant}"])
    first = benchmark.alone(benchmark.arguments(), tmp_path)
    assert len(began) == 2  # one that is timed, and one before it
    assert began[0] < first <= began[1]


@pytest.mark.parametrize(("option", "least"), [("rounds", 2), ("epochs", 3)])
def test_too_few_to_judge_by_are_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, option: str, least: int
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--{option}={least - 1}"])
    with pytest.raises(SystemExit, match=f"^--{option} must be at least {least}, got {least - 1}"):
        benchmark.arguments()
    monkeypatch.setattr(sys, "argv", ["benchmark.py", f"--{option}={least}"])
    assert getattr(benchmark.arguments(), option) == least
