"""A mistake in a user's own code comes with its traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_entry import SOURCE, arguments
from tl.cli import main
from tl.cli.own_code import show_own

PROJECT = """
from lightning.pytorch import Callback, LightningDataModule
from torch import zeros
from torch.utils.data import DataLoader, TensorDataset
from tl.tasks import Classification

class Bell(Callback):
    def on_train_start(self, trainer, pl_module):
        rign()

class Own(Classification):
    kind = "classification_with_a_typo"
    def loss(self, output, target):
        return output.maen()

class Plain(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(zeros(4, 3, 32, 32), zeros(4).long()), batch_size=2)

class Mine(Plain):
    @property
    def task(self):
        return self.taks
"""


TASK = "{class_path: typos.Own, init_args: {name: a, num_classes: 2}}"


def failing(file: str, code: str) -> Exception:
    """The error of code in a file, without this test's own frames."""
    try:
        exec(compile(code, file, "exec"), {"np": np})  # noqa: S102 - as if it were that file's
    except (OSError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        inner = error.__traceback__.tb_next if error.__traceback__ else None
        return error.with_traceback(inner)
    raise AssertionError


@pytest.mark.parametrize(
    ("file", "code", "shown"),
    [
        ("/home/me/mine.py", "np.zeros(2).maen()", True),
        ("/home/me/mine.py", "raise ValueError('four values, got 3')", True),
        ("/home/me/mine.py", "open('/nowhere/at/all')", False),
        (np.__file__, "np.zeros(2).maen()", False),
        (np.__file__, "raise RuntimeError('Caught\\n  File \"/home/me/mine.py\", line 3')", True),
    ],
)
def test_only_code_of_the_user_s_own_is_shown(
    file: str, code: str, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    show_own(failing(file, code))
    assert ("Traceback" in capsys.readouterr().err) == shown


def test_the_cause_of_an_error_is_looked_at_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = failing(np.__file__, "raise ValueError('the method does not fit')")
    error.__cause__ = failing("/home/me/mine.py", "1 / 0")
    show_own(error)
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "line", "said"),
    [
        (["--trainer.callbacks+=typos.Bell"], "rign()", "tl: NameError: name 'rign' is not"),
        (["--data=typos.Mine"], "return self.taks", "'Mine' object has no attribute 'taks'"),
        (
            ["--data=typos.Plain", f"--model.init_args.task={TASK}"],
            "output.maen()",
            "has no attribute 'maen'",
        ),
    ],
)
def test_a_typo_shows_where_it_is(
    given: list[str],
    line: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "typos.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(arguments("fit", SOURCE, tmp_path, *given)) != 0
    err = capsys.readouterr().err
    assert line in err
    assert said in err.splitlines()[-1]
