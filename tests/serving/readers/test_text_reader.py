from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.text import read
from tl.data.text.known import read_text_record
from tl.serving.readers import TextReader


def reader(**options: object) -> TextReader:
    data = read(max_length=12)
    data.setup("fit")
    known = read_text_record(data.describe())
    assert known is not None
    return TextReader(known, {"text": "text", "pair": None, **options})  # type: ignore[dict-item]


def test_a_text_is_told_from_several_and_from_a_file_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,second\none,two\nthree,four\n")
    assert reader().spread("one") == (["one"], True)
    assert reader().spread(["one", "two"]) == (["one", "two"], False)
    assert reader().spread(path) == (["one", "three"], False)
    assert reader().spread([path, "five"]) == (["one", "three", "five"], False)
    pairs = [("one", "two"), ("three", "four")]
    assert reader(pair="second").spread(path) == (pairs, False)


def test_texts_are_padded_to_the_longest_and_cut_as_in_training() -> None:
    texts = reader()
    found = texts.join([texts.read("a cat"), texts.read("a cat and a dog " * 20)])
    assert isinstance(found, dict)
    assert found["input_ids"].shape == (2, 12)
    short = int(found["attention_mask"][0].sum())
    assert short < 12
    assert found["attention_mask"][1].all()
    assert "token_type_ids" not in found
    both = texts.join([texts.read(("a cat", "a dog"))])
    assert isinstance(both, dict)
    assert both["token_type_ids"].unique().tolist() == [0, 1]
    assert torch.equal(found["input_ids"][0, : short - 1], both["input_ids"][0, : short - 1])


def test_what_is_no_text_is_refused() -> None:
    texts = reader()
    with pytest.raises(ValueError, match="int is not a text; expected a text, a pair of texts"):
        texts.read(3)
    for empty in (" ", ("a cat", "")):
        with pytest.raises(ValueError, match="the text is empty"):
            texts.read(empty)
