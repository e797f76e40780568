"""Two processes, as ``--trainer.strategy ddp --trainer.devices 2`` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import json, sys
import torch
from lightning.pytorch import Trainer
from torch import nn
from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule

class Tiny(nn.Module):
    num_features = 8
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)  # its buffers are broadcast in evaluation too
    def forward(self, images):
        return self.norm(self.conv(images)).relu().mean((2, 3))

if __name__ == "__main__":
    devices, strategy, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = MultiTaskDataModule(
        sources={
            "a": GeneratedDataModule(classes=10, train_size=170, test_size=33),
            "b": GeneratedDataModule(classes=100, train_size=300, test_size=117, targets="both"),
        },
        batch_size=20 // devices, eval_batch_size=8, val_size=0.1,
    )
    module = MultiTaskModule(Tiny(), data.tasks)
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy=strategy, max_epochs=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        limit_train_batches=int(sys.argv[4]) if len(sys.argv) > 4 else None,
    )
    trainer.fit(module, data)
    found = {k: float(v) for k, v in trainer.callback_metrics.items()}
    [tested] = trainer.test(module, data, verbose=False)
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    every = trainer.strategy.all_gather(weights) if devices > 1 else weights[None]
    same = bool((every == every[0]).all())
    if trainer.is_global_zero:
        with open(out, "w") as file:
            json.dump({"fit": found, "test": tested, "ranks_agree": same}, file)
    if devices > 1:  # gloo's threads must not outlive the interpreter
        torch.distributed.destroy_process_group()
"""


def run(folder: Path, devices: int, strategy: str, *more: str) -> dict[str, Any]:
    script, out = folder / "run.py", folder / f"{strategy}{devices}.json"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(devices), strategy, str(out), *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loaded: dict[str, Any] = json.loads(out.read_text())
    return loaded


def test_metrics_on_an_uneven_split_equal_those_of_one_process(tmp_path: Path) -> None:
    """Without training steps both hold the same weights: every sample must count once."""
    one, two = (run(tmp_path, n, s, "0") for n, s in ((1, "auto"), (2, "ddp")))
    assert two["test"] == pytest.approx(one["test"], rel=1e-5)
    assert "test/b_coarse/acc" in two["test"]


def test_training_keeps_the_processes_together(tmp_path: Path) -> None:
    two = run(tmp_path, 2, "ddp")
    assert two["ranks_agree"]
    assert {"train/loss", "val/loss", "val/a/acc"} <= set(two["fit"])


def command(folder: Path, verb: str, *more: str) -> dict[str, Any] | None:
    """Run the command line on a tiny uneven data set; return its results."""
    before = set(folder.glob("multitask/version_*"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tl.cli", verb, "--config", "configs/multitask.yaml"),
            *("--config", "configs/overlays/quick.yaml", "--data.init_args.generated_size=333"),
            *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", f"--log_dir={folder}"),
            *("--trainer.enable_progress_bar=false", *more),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = next(iter(set(folder.glob("multitask/version_*")) - before), None)
    assert (made is None) == (verb != "fit"), "an evaluation writes into the run's own folder"
    made = made or folder / "multitask" / "version_0"
    path = made / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def test_the_command_line_on_two_processes(tmp_path: Path) -> None:
    two = ("--trainer.strategy=ddp", "--trainer.devices=2")
    fitted = command(tmp_path, "fit", *two)
    assert fitted is not None
    assert {"train/loss", "val/acc", "val/cifar100/acc"} <= set(fitted["metrics"])
    alone, both = command(tmp_path, "test"), command(tmp_path, "test", *two)
    assert alone is not None
    assert both is not None
    assert both["metrics"] == pytest.approx(alone["metrics"], rel=1e-5)
    command(tmp_path, "predict", *two)
    [path] = tmp_path.rglob("predictions.csv")
    rows = path.read_text().splitlines()[1:]
    # each image of 333 // 5 and of 100 once, in order
    assert [row.split(",")[0] for row in rows] == [*map(str, range(66)), *map(str, range(100))]
