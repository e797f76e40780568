"""What a checkpoint keeps of its text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.text import read
from tl.data.errors import DataError
from tl.data.text.known import check_model, read_text_record
from tl.data.text.tokenizer import train_wordpiece


def test_a_record_holds_what_an_evaluation_needs() -> None:
    data = read(max_length=20, seed=3, label_fraction=0.5)
    data.setup("fit")
    known = read_text_record(data.describe())
    assert known is not None
    assert known.tokenizer == data.tokenizer
    assert known.classes == {"topic": data.class_names["sentences"]}
    assert (known.max_length, known.seed, known.label_fraction) == (20, 3, 0.5)
    assert known.fingerprint == data.fingerprint
    known.same_tokenizer(data.tokenizer, "here")
    assert read_text_record({"name": "images", "mean": [0.5]}) is None


def test_a_folder_with_another_tokenizer_is_refused() -> None:
    tokenizer = train_wordpiece(["a word"] * 3, 40)
    backbone = SimpleNamespace(vocab_size=100, max_length=None, tokenizer_hash="0123")
    run: Any = SimpleNamespace(lightning_module=SimpleNamespace(backbone=backbone))
    with pytest.raises(DataError, match="trained with the tokenizer 0123, the data has"):
        check_model(run, tokenizer, 5, starts=True)
    backbone.tokenizer_hash = tokenizer.hash
    check_model(run, tokenizer, 5, starts=True)
    check_model(None, tokenizer, 5, starts=True)


def test_a_source_that_is_not_there_is_the_modules_to_name() -> None:
    tokenizer = train_wordpiece(["a word"] * 3, 40)
    module = SimpleNamespace(backbone=SimpleNamespace(), init_from="no such.ckpt")
    run: Any = SimpleNamespace(lightning_module=module)
    check_model(run, tokenizer, 5, starts=True)
