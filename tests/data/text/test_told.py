"""Texts in training and evaluation."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tl.data import TextDataModule


def write(path: Path, texts: list[str]) -> str:
    rows = [f"{text},{'ab'[i % 2]}" for i, text in enumerate(texts)]
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return str(path)


def fit(folder: Path, test: list[str], val: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    files = {"train": write(folder / "train.csv", [f"word {i}" for i in range(20)])}
    files |= {"test": write(folder / "test.csv", test), "val": write(folder / "val.csv", val)}
    TextDataModule(**files, targets="label", vocab_size=60).setup("fit")


def test_copies_are_counted_by_split(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="training texts") as found:
        fit(tmp_path / "texts", ["word 3", "new", "word 4", "other"], ["word 5", "else"])
    said = [str(one.message) for one in found if "training texts" in str(one.message)]
    assert said[0].startswith("texts: 1 of 2 validation texts are also training texts, such as 'wo")
    assert said[1].startswith("texts: 2 of 4 test texts are also training texts, such as 'word 3';")


def test_without_copies_nothing_is_said(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, ["new", "other"], ["else", "more"])
