"""How a run ends: its exit code says whether the command or the run is at fault."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import tl
from tests.cli.test_entry import SOURCE, arguments
from tl.cli import main
from tl.cli.running import quiet

STOPS = """
from lightning.pytorch import Callback

class Stops(Callback):
    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.stop)

    def stop(self, *given, **named) -> None:
        raise ValueError("the door is shut")
"""


@pytest.mark.parametrize(("hook", "code"), [("setup", 2), ("on_train_end", 1)])
def test_an_error_is_a_mistake_until_training_begins(
    hook: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "stops_a_run.py").write_text(STOPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = ("--trainer.callbacks+=stops_a_run.Stops", f"--trainer.callbacks.hook={hook}")
    found = main(arguments("fit", SOURCE, tmp_path, *mine))
    assert found == code
    assert capsys.readouterr().err.splitlines()[-1] == "tl: the door is shut"
    assert (tmp_path / "source_cifar10" / "version_0").exists() == (code == 1)


def test_a_warning_of_ours_is_a_line_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    quiet()
    ours = str(Path(tl.__file__).parent / "hardware.py")
    for text in ("tl: it is slow", "it is slow"):
        assert warnings.formatwarning(text, UserWarning, ours, 1) == "tl: it is slow\n"
    theirs = warnings.formatwarning("it is slow", UserWarning, "/mine/net.py", 1)
    assert theirs == "/mine/net.py:1: UserWarning: it is slow\n"
