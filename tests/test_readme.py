"""The README's commands and its example do what it says."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tl import cli
from tl.cli.verbs import VERBS, parser_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("tl.cli ", 1)[1]
    for block in BLOCKS
    for line in block.splitlines()
    if "tl.cli " in line
]


def block(name: str, language: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found.group(1)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8
    assert "pip install -e '.[dev]'" in block("tests", "bash")
    assert "quick.yaml" in block("run", "bash")


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_every_command_is_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parsed as it stands, with the configuration printed instead of run."""
    monkeypatch.chdir(ROOT)
    verb, *rest = shlex.split(command)
    if verb in VERBS:
        parser_of(verb).parse_args(rest)  # exits where it does not understand
        return
    if not any(word.startswith("--config") for word in rest):
        assert "--ckpt_path" in command, "it takes the configuration of that run"
        rest = ["--config=configs/multitask.yaml", *rest]
    code = cli.main([verb, *rest, "--print_config"])
    assert code == 0, capsys.readouterr().err
    assert "class_path: tl.modules." in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/[\w/]+\.yaml", README))))
def test_files_that_are_named_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("name", "shown"), [("example", "val/hundred_coarse/acc"), ("tasks", "val/level/mae")]
)
def test_the_examples_for_other_projects_run(name: str, shown: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block(name, "python"))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert shown in done.stdout


def fit(overlay: str, folder: Path, *more: str) -> dict[str, float]:
    """Metrics of a short run of the shipped configuration with a block of the README over it."""
    (folder / "overlay.yaml").write_text(block(overlay, "yaml"))
    code = cli.main(
        [
            *("fit", "--config=configs/multitask.yaml", "--config=configs/overlays/quick.yaml"),
            *(f"--config={folder / 'overlay.yaml'}", f"--log_dir={folder}", "--name=shown"),
            *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--dashboard.graph=no"),
            *("--trainer.enable_progress_bar=false", "--throughput.mfu=false", *more),
        ]
    )
    if code:
        raise SystemExit(code)
    results = json.loads((folder / "shown" / "version_0" / "results.json").read_text())
    metrics: dict[str, float] = results["metrics"]
    return metrics


def test_balanced_sampling_is_set_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    with caplog.at_level("INFO"):
        metrics = fit("balanced", tmp_path, "--data.init_args.generated_size=300")
    assert {"val/cifar10/acc", "val/cifar100_fine/acc", "val/cifar100_coarse/acc"} <= {*metrics}
    assert "balanced sampling by cifar100_coarse: each of its 20 classes" in caplog.text


def test_a_second_domain_is_set_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for source in ("photos", "drawings"):
        for number, kind in enumerate(("cat", "dog") * 8):
            path = tmp_path / "data" / source / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 9, 100 * (kind == "cat"))).save(path)
    own = (
        f"--data.init_args.root={tmp_path / 'data'}",
        *("--data.init_args.images=null", "--data.init_args.generated_size=null"),
        *("--data.init_args.download=null", "--data.init_args.offline=null"),
    )
    metrics = fit("second-domain", tmp_path, *own)
    assert {"train/photos/loss", "val/photos/acc", "val/drawings/acc"} <= {*metrics}
    assert "train/drawings/loss" not in metrics
    assert metrics["val/loss"] == metrics["val/photos/loss"]
    with pytest.raises(SystemExit):
        fit("second-domain", tmp_path, *own, "--data.init_args.shares={drawing: photos}")
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "tl: `shares` names 'drawing', which is not a task of the data; they define photos, "
        "drawings."
    )


def test_what_is_in_the_box_can_be_imported() -> None:
    table = README.split("## In the box")[1].split("\n## ")[0]
    rows = re.findall(r"\| `(tl\.[\w.]+)` \| (.*) \|", table)
    assert len(rows) >= 5
    for name, text in rows:
        package = importlib.import_module(name)
        for word in re.findall(r"`([A-Z]\w+)`", text):
            assert hasattr(package, word), f"{name} has no {word}"
