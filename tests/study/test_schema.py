from __future__ import annotations

from pathlib import Path

from tests.studies import write_study
from tl.study.study_file import read_study


def test_a_study_is_named_after_its_file(tmp_path: Path) -> None:
    assert read_study(write_study(tmp_path)).name == "small"
