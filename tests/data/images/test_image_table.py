from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tl.data import DataError
from tl.data.images.image_table import check_there, read_image_table


def files(cells: Sequence[str]) -> list[Path]:
    return [Path(cell) for cell in cells]


def written(folder: Path, *rows: str) -> Path:
    (folder / "labels.csv").write_text("\n".join(["image,part", *rows]))
    return folder / "labels.csv"


def test_rows_by_the_names_that_splits_have(tmp_path: Path) -> None:
    path = written(tmp_path, "a.png,Train", "b.png,dev", "c.png,testing", "d.png,training")
    table = read_image_table(path, "image", "part", files)
    assert table["train"].columns["image"] == ["a.png", "d.png"]
    assert table["val"].columns["image"] == ["b.png"]
    assert table["test"].columns["image"] == ["c.png"]
    whole = read_image_table(path, "image", None, files)
    assert len(whole["test"]) == len(whole["train"]) == 4


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.png,train", ",train"], "names no image"),
        (["a.png,train", "b.png,train", "a.png,test"], r"a\.png in lines 2 and 4"),
        (["a.png,later"], "has the split 'later'"),
    ],
)
def test_rows_that_cannot_be_are_named(tmp_path: Path, rows: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_image_table(written(tmp_path, *rows), "image", "part", files)


def test_missing_images_are_a_mistake_unless_some_may_be(tmp_path: Path) -> None:
    path = written(tmp_path, "a.png,train", "b.png,train")
    table = read_image_table(path, "image", None, files)["train"]
    (tmp_path / "a.png").touch()
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    check_there(paths, table, some=True)
    with pytest.raises(DataError, match=r"1 of 2 images .* do not exist, .*b\.png \(line 3\)"):
        check_there(paths, table, some=False)
    with pytest.raises(DataError, match="1 of 1"):
        check_there(paths[1:], table.rows([1]), some=True)
