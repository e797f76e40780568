"""Groups of classes from a CSV file, whichever program wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tl.data.errors import DataError
from tl.data.images.groups import read_groups

CLASSES = ("ant", "bee", "cat")
GROUPS = {"ant": "insect", "bee": "insect", "cat": "mammal"}


@pytest.mark.parametrize(
    "text",
    [
        "class,group\nant,insect\nbee,insect\ncat,mammal\n",
        "\ufeffclass,group\r\nant,insect\r\nbee,insect\r\ncat,mammal\r\n",  # a spreadsheet's
        "class , group \nant, insect \n bee ,insect\ncat,\tmammal\n",
        "class, group\nant, insect\nbee, insect\ncat, mammal\nant, insect\n",
        "coarse_name,fine_name\ninsect,ant\ninsect,bee\nmammal,cat\nmammal,dog\n",
    ],
)
def test_tables_are_read_whichever_program_wrote_them(text: str, tmp_path: Path) -> None:
    (table := tmp_path / "groups.csv").write_bytes(text.encode())
    assert read_groups(table, CLASSES) == GROUPS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "class,group\nant,insect\nbee,insect\ncat,mammal\nant,mammal\n",
            "assigns classes to two groups: ant",
        ),
        ("class,group\nant,insect\n", "no group for 2 classes: bee, cat"),
        ("name,kind\nant,insect\n", "columns class,group, got name,kind"),
        ("", "columns class,group, got none"),
    ],
)
def test_tables_that_do_not_fit_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (table := tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_groups(table, CLASSES)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read `groups` .*none\.csv: No such file"):
        read_groups(tmp_path / "none.csv", CLASSES)
    (table := tmp_path / "groups.csv").write_bytes(b"class,group\n\xff,a\n")
    with pytest.raises(DataError, match="is not a CSV file in UTF-8"):
        read_groups(table, CLASSES)
