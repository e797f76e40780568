from __future__ import annotations

from pathlib import Path

from tl.cli.checking import refusal

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ("--config", str(ROOT / "configs/source_cifar10.yaml"))


def test_arguments_are_parsed_and_nothing_is_run() -> None:
    assert refusal([*CONFIG, "--trainer.max_steps=3"]) is None
    line = refusal([*CONFIG, "--model.init_args.lrr=3"])
    assert line is not None
    assert "lrr" in line
    assert "\n" not in line
