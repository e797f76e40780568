"""The README's commands and its example do what it says."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

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
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, *rest, "--print_config"])
    assert stopped.value.code in (0, None), capsys.readouterr().err
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


def test_what_is_in_the_box_can_be_imported() -> None:
    table = README.split("## In the box")[1].split("\n## ")[0]
    rows = re.findall(r"\| `(tl\.[\w.]+)` \| (.*) \|", table)
    assert len(rows) >= 5
    for name, text in rows:
        package = importlib.import_module(name)
        for word in re.findall(r"`([A-Z]\w+)`", text):
            assert hasattr(package, word), f"{name} has no {word}"
