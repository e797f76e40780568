"""The writer, and what any data module may publish."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from tests.small import trainer
from tl.callbacks import board
from tl.callbacks.board import (
    as_markdown,
    class_names_of,
    how_started,
    image_grid,
    statistics_of,
    writer_of,
)


def test_the_writer_is_tensorboards_or_none(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    assert writer_of(trainer(tmp_path, logger=[CSVLogger(tmp_path), logger])) is logger.experiment
    assert writer_of(trainer(tmp_path, logger=CSVLogger(tmp_path))) is None
    assert writer_of(trainer(tmp_path)) is None


def test_data_publish_what_they_have() -> None:
    def around(**data: Any) -> Any:
        return cast("Any", SimpleNamespace(datamodule=SimpleNamespace(**data)))

    assert class_names_of(around(), "a") is None
    assert class_names_of(around(class_names={"a": ("x", "y"), "b": ("z",)}), "a") == ["x", "y"]
    assert class_names_of(around(class_names={"b": ("z",)}), "a") == ["z"]  # the only one
    two = (torch.zeros(3), torch.ones(3))
    assert statistics_of(around(), None) is None
    assert statistics_of(around(statistics=two), None) is two
    assert statistics_of(around(sources={"s": SimpleNamespace(statistics=two)}), "s") is two


def test_plain_types_are_an_indented_block() -> None:
    given = {"a": Path("b|c"), "d": {"e": [1, 2], "f": {}}, "g": [{"h": "i\nj"}]}
    head, rule, *rows = as_markdown(given).splitlines()
    assert (head, rule) == ("| | |", "| --- | --- |")
    assert rows == [r"| a | b\|c |", "| d / e | 1, 2 |", "| d / f | {} |", "| g / 0 / h | i j |"]


def test_numbers_have_six_digits() -> None:
    [*_, row] = as_markdown({"mean": [121.18649291992188, 0.1]}).splitlines()
    assert row == "| mean | 121.186, 0.1 |"


def test_long_values_are_broken_so_that_their_names_are_not() -> None:
    [_, _, row] = as_markdown({"classes": [f"class_{n}" for n in range(100)]}).splitlines()
    name, value = row.strip("|").split("|")
    lines = value.strip().split("<br>")
    assert (name.strip(), len(lines) > 5) == ("classes", True)
    assert max(map(len, lines)) <= 90
    assert " ".join(lines) == ", ".join(f"class_{n}" for n in range(100))


def test_a_command_of_a_module_is_shown_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    main = Path(board.__file__).parents[1] / "cli" / "__main__.py"
    monkeypatch.setattr("sys.argv", [str(main), "fit", "--epochs=2"])
    assert how_started()["command"] == "python -m tl.cli fit --epochs=2"


def test_a_run_knows_its_command_and_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["tl", "fit", "--name=a b"])
    assert how_started() == {"command": "tl fit '--name=a b'"}  # no repository, no commit
    if shutil.which("git") is None:
        pytest.skip("needs git")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "a")):
        subprocess.run(["git", *words], check=True)  # noqa: S607
    assert re.fullmatch("[0-9a-f]{40}", how_started()["commit"])


def test_small_images_are_enlarged() -> None:
    assert image_grid(torch.zeros(10, 3, 32, 32)).shape == (3, 2 * 66 + 2, 8 * 66 + 2)
    assert image_grid(torch.zeros(2, 3, 224, 224)).shape[1] == 228
