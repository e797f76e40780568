"""What a command has not imported: a plain run before its first step, and verbs that only read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.report.test_compare import leave

ROOT = Path(__file__).resolve().parents[2]
LATER = {
    *("cvxpy", "matplotlib", "optuna", "pandas", "peft", "qpsolvers", "scipy", "sklearn", "timm"),
    "transformers",
}
SCRIPT = """
import os, sys
from tl.cli import main

def first_step(*given, **named):
    print("imported:", *sorted({name.split(".")[0] for name in sys.modules}))
    sys.stdout.flush()
    os._exit(0)

from tl.private.deferred import import_lightly
import_lightly()
from tl.modules.multitask import MultiTaskModule
MultiTaskModule.training_step = first_step
main(sys.argv[1:])
"""


def test_a_plain_run_has_not_imported_these_before_its_first_step(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, "fit"]
    command += [f"--config={ROOT}/configs/{n}.yaml" for n in ("multitask", "overlays/quick")]
    command += [f"--log_dir={tmp_path}", "--data.init_args.generated_size=400"]
    command += ["--data.init_args.batch_size=4", "--trainer.num_sanity_val_steps=0"]
    command += ["--dashboard.graph=false"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("imported: ")]
    assert not LATER & set(line.split())


LIGHT = """
import os, sys
from tl.cli import main

assert main(sys.argv[2:]) == 0
imported = {name.split(".")[0] for name in sys.modules}
print("imported:", *sorted(imported & set(sys.argv[1].split(","))))
"""
HEAVY = "torch,torchvision,lightning,torchmetrics,jsonargparse,optuna,pandas,scipy"


def test_help_lists_comparisons_and_projects_need_neither_torch_nor_lightning(
    tmp_path: Path,
) -> None:
    run = leave(tmp_path / "a" / "version_0", 0, 0.5)
    for command, more in (
        (["--help"], ",matplotlib,numpy"),
        (["fit", "--help"], ",matplotlib,numpy"),
        (["fit", "--model.help"], ",matplotlib,numpy"),
        (["list", "tasks"], ",matplotlib,numpy"),
        (["new", str(tmp_path / "project")], ",matplotlib,numpy"),
        (["compare", str(run)], ",matplotlib"),
    ):
        words = [sys.executable, "-c", LIGHT, HEAVY + more, *command]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.splitlines()[-1] == "imported:", command
