from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.test_verbs import failure
from tl.cli import main
from tl.cli.completion import command_line
from tl.cli.listing import KINDS
from tl.cli.short_forms import LIGHTNINGS
from tl.cli.verbs import VERBS
from tl.private.jsonargparse import options_of

ROOT = Path(__file__).resolve().parents[2]
MARKS = SimpleNamespace(FILE={"bash": "file"}, DIRECTORY={"bash": "folder"})


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_it_knows_verbs_options_files_and_names() -> None:
    verbs = options_of(command_line(MARKS))[-1].choices
    assert isinstance(verbs, dict)
    assert [*verbs] == [*LIGHTNINGS, *VERBS]
    fit = {option: each for each in options_of(verbs["fit"]) for option in each.option_strings}
    assert {"--epochs", "--data.root", "--trainer.precision", "--log_dir"} <= {*fit}
    assert "pcgrad" in (fit["--balancer"].choices or ())
    assert "lp_ft" in (fit["--strategy"].choices or ())
    assert vars(fit["--config"])["complete"] == MARKS.FILE
    assert vars(fit["--data.root"])["complete"] == MARKS.DIRECTORY
    shown = {option for each in options_of(verbs["show"]) for option in each.option_strings}
    assert {"--all", "--balancer"} <= shown
    runs = options_of(verbs["compare"])[1]
    assert vars(runs)["complete"] == MARKS.FILE
    assert options_of(verbs["list"])[1].choices == KINDS


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "needs shtab: pip install 'tl[completion]'" in failure(capsys, "completion", "bash")


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        (["tl", "comp"], {"compare", "completion"}),
        (["tl", "list", "ba"], {"balancing", "backbones"}),
        (["tl", "fit", "--balancer", "pcg"], {"pcgrad"}),
        (["tl", "fit", "--data.r"], {"--data.root"}),
        (["tl", "show", "--epo"], {"--epochs"}),
        (["tl", "fit", "--config", "configs/multi"], {"configs/multitask.yaml"}),
    ],
)
def test_bash_completes(
    typed: list[str], completed: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "tl.sh").write_text(capsys.readouterr().out)
    words = " ".join(f"'{word}'" for word in typed)
    ask = (
        f"source {tmp_path}/tl.sh; COMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; "
        f"_shtab_tl tl '{typed[-1]}' '{typed[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=False)
    assert {line.strip() for line in done.stdout.splitlines()} - {""} >= completed, done.stderr


def test_zsh_has_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef tl")
    # each `--config`, also `--config=`, and each of several runs
    assert '"*--config=[' in script
    assert '"*:Run folder' in script
    assert '"(*)' not in script


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("tl fit --config configs/multitask.yaml --conf", "--config="),
        ("tl fit --config=configs/multi", "--config=configs/multitask.yaml"),
        ("tl fit --balancer pcg", "pcgrad"),
        ("tl compare tl configs/over", "configs/overlays/"),
    ],
)
def test_zsh_completes(
    typed: str, completed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("shtab")
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("needs zsh")
    assert main(["completion", "zsh"]) == 0
    (tmp_path / "_tl").write_text(capsys.readouterr().out)
    (tmp_path / ".zshrc").write_text(
        f"fpath=({tmp_path} $fpath); autoload -Uz compinit && compinit -u -D\n"
        f"note() {{ print -r -- $BUFFER > {tmp_path}/typed }}; zle -N note; bindkey '^X' note\n"
    )
    ours, its = pty.openpty()  # a terminal, in which keys are typed
    keys = os.environ | {"ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    with subprocess.Popen([zsh, "-i"], stdin=its, stdout=its, stderr=its, env=keys) as shell:
        os.write(ours, f"{typed}\t\x18".encode())
        line = ""
        for _ in range(300):
            time.sleep(0.1)
            if (tmp_path / "typed").is_file() and (line := (tmp_path / "typed").read_text()):
                break
        shell.kill()
    os.close(ours)
    os.close(its)
    assert line.split()[-1] == completed
