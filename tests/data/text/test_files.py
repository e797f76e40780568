"""Text in files: splits, tasks, and mistakes in one line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tl.data import TextDataModule
from tl.data.errors import DataError
from tl.data.text.grammar import sentences

ROWS = [row for row, _ in zip(sentences(0), range(80), strict=False)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))


def write(path: Path, rows: list[tuple[str, str, str]] = ROWS, splits: Any = None) -> str:
    named = [f'"{t}",{topic},{said}' for t, topic, said in rows]
    if splits is not None:
        named = [f"{row},{splits[i % len(splits)]}" for i, row in enumerate(named)]
    head = "text,topic,sentiment" + (",split" if splits is not None else "")
    path.write_text("\n".join([head, *named]) + "\n")
    return str(path)


def read(path: str, **options: Any) -> TextDataModule:
    given = {"targets": "topic", "vocab_size": 300, "batch_size": 8, **options}
    return TextDataModule(path, **given)


def test_a_column_tells_the_split(tmp_path: Path) -> None:
    data = read(write(tmp_path / "a.csv", splits=["train", "train", "dev", "test"]), split="split")
    data.setup("fit")
    data.setup("test")
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 40,
        "val": 20,
        "test": 20,
    }
    assert data.splits["val"].name(0) == ROWS[2][0]
    other = read(write(tmp_path / "b.csv", splits=["train", "tset"]), split="split")
    with pytest.raises(DataError, match="line 3 has the split 'tset'; expected one of train"):
        other.setup("fit")


def test_another_file_or_column_takes_effect(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", splits=["train", "train", "dev", "test"])
    data = read(path, split="split")
    data.setup("fit")
    less = write(tmp_path / "b.csv", ROWS[:40], splits=["train", "dev"])
    for change, wanted in (
        ({"train": less}, {"train": 20, "val": 20}),
        ({"split": None}, {"train": 36, "val": 4}),
        ({"val": path}, {"train": 40, "val": 80}),
    ):
        for name, value in change.items():
            setattr(data, name, value)
        data.setup("fit")
        assert {split: len(part) for split, part in data.splits.items()} == wanted
    with pytest.raises(AttributeError, match="`name` cannot change; make a new TextDataModule"):
        data.name = "topics"


def test_files_per_split(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / f"{name}.csv", ROWS[first : first + 20])
        for name, first in (("train", 0), ("val", 20), ("test", 40))
    ]
    data = read(paths[0], val=paths[1], test=paths[2], name="of topics")
    data.setup("fit")
    data.setup("test")
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [20, 20, 20]
    assert data.tasks[0].name == "of_topics"
    assert read(paths[1]).tasks[0].name == "val"


def test_several_targets_are_several_tasks(tmp_path: Path) -> None:
    data = read(write(tmp_path / "a.csv"), targets=["topic", "sentiment"])
    assert [task.name for task in data.tasks] == ["a_topic", "a_sentiment"]
    assert data.class_names["a_sentiment"] == ("negative", "positive")
    data.setup("fit")
    inputs, targets = next(iter(data.train_dataloader()))
    assert inputs.keys() == {"input_ids", "attention_mask"}
    assert targets.keys() == {"topic", "sentiment"}


def test_pairs_have_types(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        "".join(
            f'{{"a": "{t}", "b": "{t[:20]}", "alike": {i % 5}}}\n' for i, (t, *_) in enumerate(ROWS)
        )
    )
    data = read(str(path), text="a", pair="b", targets={"alike": "number"})
    data.setup("fit")
    inputs, target = next(iter(data.train_dataloader()))
    assert inputs["token_type_ids"].max() == 1
    assert target.dtype is torch.float32


def test_a_file_of_sentences_is_predicted_in_order(tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("A violin.\nThe soup was dreadful and cold again.\nRain.\n")
    data = read(write(tmp_path / "a.csv"), predict_file=str(tmp_path / "new.txt"))
    data.setup("predict")
    [(inputs, positions)] = list(data.predict_dataloader())
    assert positions.tolist() == [0, 1, 2]
    assert data.splits["predict"].name(1) == "The soup was dreadful and cold again."
    assert inputs["attention_mask"].sum(1).argmax() == 1


def test_rows_to_predict_without_a_text_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new = tmp_path / "new.txt"
    new.write_text("A violin.\n\nRain.\n \n")
    data = read(write(tmp_path / "a.csv"), predict_file=str(new))
    with caplog.at_level(logging.INFO):
        data.setup("predict")
    found = data.splits["predict"]
    assert [found.name(row) for row in range(len(found))] == ["A violin.", "Rain."]
    assert f"not predicted, 2 of 4 rows of {new} have no text: line 2, 4." in caplog.text
    new.write_text("\n\n")
    with pytest.raises(DataError, match="line 1 has no text"):
        read(write(tmp_path / "a.csv"), predict_file=str(new)).setup("predict")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "body"}, "no column 'body' (`text`); its columns are text, topic, sentiment"),
        ({"targets": "theme"}, "no column 'theme' (`targets`)"),
        ({"split": "part"}, "no column 'part' (`split`)"),
        ({"max_length": 8, "on_long": "error"}, "of 80 texts"),
        ({"label_fraction": 0.001}, "leave none of 80 texts to train"),
    ],
)
def test_what_does_not_fit_is_one_line(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as found:
        read(write(tmp_path / "a.csv"), **options).setup("fit")
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_an_empty_text_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, [*ROWS[:3], ("  ", "food", "positive"), ("", "food", "positive")])
    with pytest.raises(DataError, match=r"line 5 has no text \(text\); so have 2 of 5 rows"):
        read(str(path)).setup("fit")


def test_a_label_that_training_lacks_is_named(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", [row for row in ROWS if row[1] != "food"])
    data = read(train, test=write(tmp_path / "test.csv"))
    data.setup("fit")
    with pytest.raises(DataError, match=r"label .food. .*which the training split lacks"):
        data.setup("test")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("masked_tokens", 1.0),
        ("max_length", 3),
        ("batch_size", 0),
        ("length_window", 0),
        ("val_size", 1.0),
        ("label_fraction", 0.0),
        ("on_long", "leave"),
        ("targets", None),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match="`"):
        read("a.csv", **{option: value})
