"""Tokenizers: found, trained, kept, and told apart by a hash."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tl.data.errors import DataError
from tl.data.text.tokenizer import (
    TextTokenizer,
    find_tokenizer,
    tokenizer_of_checkpoint,
    train_wordpiece,
)

TEXTS = ["the cat sat on the mat", "a dog ate the cat", "the dog sat", "no mat, no cat"] * 5


@pytest.fixture(scope="module")
def trained() -> TextTokenizer:
    return train_wordpiece(TEXTS, 60)


def test_a_trained_one_has_the_places_of_bert(trained: TextTokenizer) -> None:
    assert trained.vocab_size <= 60
    assert trained.pad_id == 0
    assert trained.mask_id == 4
    assert trained.special_ids.tolist() == [0, 1, 2, 3, 4]
    backend = trained.backend()
    alone = backend.encode("The CAT sat")
    assert (alone.tokens[0], alone.tokens[-1]) == ("[CLS]", "[SEP]")
    assert backend.decode(alone.ids) == "the cat sat"
    pair = backend.encode("the cat", "a dog")
    assert pair.tokens.count("[SEP]") == 2
    assert pair.type_ids == sorted(pair.type_ids)
    assert set(pair.type_ids) == {0, 1}


def test_it_is_the_same_from_a_record_a_file_and_a_folder(
    trained: TextTokenizer, tmp_path: Path
) -> None:
    record = trained.record()
    json.dumps(record)  # plain types
    assert TextTokenizer.from_record(record) == trained
    backend = trained.backend()
    backend.enable_truncation(4)  # of one run, and no part of the tokenizer
    backend.save(str(tmp_path / "tokenizer.json"))
    for name in (tmp_path, tmp_path / "tokenizer.json"):
        assert find_tokenizer(str(name)).hash == trained.hash == record["hash"]


def test_another_vocabulary_has_another_hash(trained: TextTokenizer) -> None:
    assert train_wordpiece([*TEXTS, "zebra zebra"], 60).hash != trained.hash


def test_a_checkpoint_holds_its_own(trained: TextTokenizer, tmp_path: Path) -> None:
    data = {"name": "a", "fingerprint": "real:0", "tokenizer": trained.record()}
    torch.save({"state_dict": {}, "tl": {"data": data}}, tmp_path / "a.ckpt")
    assert find_tokenizer(str(tmp_path / "a.ckpt")) == trained
    torch.save({"state_dict": {}, "tl": {"data": {"a": data}}}, tmp_path / "b.ckpt")
    assert tokenizer_of_checkpoint(tmp_path / "b.ckpt") == trained
    torch.save({"state_dict": {}, "tl": {"data": None}}, tmp_path / "c.ckpt")
    with pytest.raises(DataError, match="does not hold a tokenizer"):
        find_tokenizer(str(tmp_path / "c.ckpt"))


def test_what_is_no_tokenizer_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    for name, said in (
        (str(tmp_path / "tokenizer.json"), "is not a tokenizer.json"),
        (str(tmp_path / "missing.json"), "no such file"),
        (str(tmp_path / "missing/at/all"), "no such file"),
    ):
        with pytest.raises(DataError, match=said) as found:
            find_tokenizer(name)
        assert "\n" not in str(found.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no tokenizer\.json\. Write one by"):
        find_tokenizer(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="damaged"):
        TextTokenizer.from_record({"packed": "?"})


def test_a_name_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="cannot be downloaded") as found:
        find_tokenizer("nobody/has-this-model")
    assert "\n" not in str(found.value)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tl\[text\]'"):
        train_wordpiece(TEXTS, 60)
