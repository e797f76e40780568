"""Tables of text, and what is wrong with them in one line."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest

from tl.data.errors import DataError
from tl.data.text.table import read_table

CSV = 'text,label\n"A cat, asleep",animal\nOne red rose,plant\n'
TABLES = {
    "csv": CSV,
    "tsv": "text\tlabel\nA cat, asleep\tanimal\nOne red rose\tplant\n",
    "jsonl": '{"text": "A cat, asleep", "label": "animal"}\n\n'
    '{"text": "One red rose", "label": "plant"}\n',
}


def line(path: Path, **options: str) -> str:
    with pytest.raises(DataError) as found:
        read_table(path, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "csv.xz", "jsonl", "jsonl.xz", "tsv"])
def test_one_table_in_any_format(ending: str, tmp_path: Path) -> None:
    text = TABLES[ending.partition(".")[0]]
    path = tmp_path / f"a.table.{ending}"
    openers: dict[str, Any] = {"gz": gzip.open, "xz": lzma.open}
    opener = openers.get(ending.rpartition(".")[2], open)
    with opener(path, "wb") as file:
        file.write(text.encode())
    table = read_table(path)
    assert table.columns == {
        "text": ["A cat, asleep", "One red rose"],
        "label": ["animal", "plant"],
    }
    assert table.where(1) == f"{path}, line 3"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_spreadsheet_s_separator_and_mark_are_seen(separator: str, tmp_path: Path) -> None:
    rows = [["text", "label"], ["A cat, asleep", "animal"], ["One red rose", "plant"]]
    lines = "\r\n".join(separator.join(row) for row in rows)
    (tmp_path / "a.csv").write_bytes(f"\ufeff{lines}\r\n".encode())
    assert read_table(tmp_path / "a.csv").columns == {
        "text": ["A cat, asleep", "One red rose"],
        "label": ["animal", "plant"],
    }


def test_sentences_are_a_column_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\nTwo.\n")
    assert read_table(tmp_path / "a.txt", text="says").columns == {"says": ["One.", "Two."]}


def test_a_spreadsheets_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\nA\n")
    assert list(read_table(tmp_path / "a.csv").columns) == ["text"]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text\nCafé\n".encode("latin-1"))
    assert "is not in utf-8: byte 0xe9" in line(path)
    assert read_table(path, "latin-1").columns == {"text": ["Café"]}
    assert "`encoding` 'utf-9' is unknown" in line(path, encoding="utf-9")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "text,label\na,b\na,b,c\n", "line 3 has 3 cells; expected 2: text, label"),
        ("a.csv", "text,text\na,b\n", "two columns of one name"),
        ("a.csv", "text\n", "has no rows"),
        ("a.csv", 'text\n"a', "cannot be read"),
        ("a.jsonl", '{"text": "a"}\n{"text"\n', "line 2 is not JSON"),
        ("a.jsonl", '["a"]\n', "line 1 is a JSON list; expected an object"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"txt": "a"}\n',
            "with null for a missing value",
        ),
        ("a.csv.xz", "text\na\n", "cannot be read"),
        ("a.parquet", "text", "must be a .csv, .tsv, .jsonl, .txt file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert said in line(tmp_path / name)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert "No such file" in line(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(CSV)
    with pytest.raises(DataError, match=r"no column .body. .`text`.; its columns are text, label"):
        read_table(tmp_path / "a.csv").column("body", "text")


def test_rows_without_a_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": " "}\n{"text": null}\n')
    with pytest.raises(DataError, match=r"line 2 has no text \(text\); so have 2 of 3 rows\."):
        read_table(path).texts("text", "text")
    with pytest.raises(DataError, match=r"no column 'words' \(`pair`\)"):
        read_table(path).texts("words", "pair")
    path.write_text('{"text": "one"}\n')
    assert read_table(path).texts("text", "text") == ["one"]
