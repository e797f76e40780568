from __future__ import annotations

from pathlib import Path

import pytest

from tl.study.checks import check_file, check_known, listed, mapping_of, texts_of, varied


def test_checks_say_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`a` must be a mapping, got \[1\]"):
        mapping_of([1], "`a`")
    with pytest.raises(ValueError, match=r"`a` must be a list of texts, got \[1\]"):
        texts_of([1], "`a`")
    with pytest.raises(ValueError, match="`a` has no 'c'; it has b"):
        check_known({"c": 1}, ["b"], "`a`")
    with pytest.raises(ValueError, match="there is no such file"):
        check_file(str(tmp_path / "a"), "`a`")
    assert texts_of([], "`a`", empty=True) == ()
    assert listed([]) == "none"
    assert varied({}) == "it varies nothing"
