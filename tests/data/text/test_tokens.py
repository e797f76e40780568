"""Tokens in one row of memory, cut into padded batches, cached by content."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tl.data.text.tokenizer import TextTokenizer, train_wordpiece
from tl.data.text.tokens import tokenise, trained_tokenizer

TEXTS = ["the cat sat", "a", "the dog ate the cat on the mat", "no"]
PAIRS = ["a dog", "the mat sat", "no", "the"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return train_wordpiece([*TEXTS, *PAIRS] * 4, 60)


def test_a_batch_is_what_the_library_pads(tokenizer: TextTokenizer) -> None:
    found = tokenise(TEXTS, None, tokenizer, 32)
    assert found.flat.dtype is torch.int32
    backend = tokenizer.backend()
    backend.enable_padding(pad_id=tokenizer.pad_id)
    rows = torch.tensor([2, 0, 3])
    wanted = backend.encode_batch([TEXTS[i] for i in rows])
    batch = found.batch(rows, tokenizer.pad_id, types=True)
    assert batch["input_ids"].tolist() == [each.ids for each in wanted]
    assert batch["attention_mask"].tolist() == [each.attention_mask for each in wanted]
    assert not batch["token_type_ids"].any()
    short = found.batch(torch.tensor([1, 3]), tokenizer.pad_id, types=False)
    assert short.keys() == {"input_ids", "attention_mask"}
    assert short["input_ids"].shape == (2, 3)  # as long as its longest text


def test_pairs_have_two_types(tokenizer: TextTokenizer) -> None:
    found = tokenise(TEXTS, PAIRS, tokenizer, 32)
    backend = tokenizer.backend()
    backend.enable_padding(pad_id=tokenizer.pad_id)
    wanted = backend.encode_batch(list(zip(TEXTS, PAIRS, strict=True)))
    batch = found.batch(torch.arange(4), tokenizer.pad_id, types=True)
    assert batch["input_ids"].tolist() == [each.ids for each in wanted]
    assert batch["token_type_ids"].tolist() == [each.type_ids for each in wanted]


def test_long_texts_are_cut_and_counted(tokenizer: TextTokenizer) -> None:
    found = tokenise(TEXTS, None, tokenizer, 5)
    assert found.cut == 1
    assert found.lengths.tolist() == [5, 3, 5, 3]
    assert tokenise(TEXTS, None, tokenizer, 5).cut == 1  # from the cache too


def test_the_cache_follows_content_and_tokenizer(
    tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tokenise(TEXTS, None, tokenizer, 32)
    [stored] = (tmp_path / "text").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(TextTokenizer, "backend", lambda _: pytest.fail("tokenised again"))
        assert torch.equal(tokenise(TEXTS, None, tokenizer, 32).flat, first.flat)
    other = train_wordpiece(["other words here"] * 9, 60)
    for texts, pairs, by, length in (
        ([*TEXTS[:3], "on"], None, tokenizer, 32),
        (TEXTS, PAIRS, tokenizer, 32),
        (TEXTS, None, other, 32),
        (TEXTS, None, tokenizer, 31),
        (["the cat sata", *TEXTS[2:], "no"], None, tokenizer, 32),  # no text runs into the next
    ):
        tokenise(texts, pairs, by, length)
    files = list((tmp_path / "text").iterdir())
    assert len(files) == 6
    assert stored in files


def test_a_damaged_cache_is_made_anew(
    tokenizer: TextTokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = tokenise(TEXTS, None, tokenizer, 32)
    [stored] = (tmp_path / "text").iterdir()
    content = bytearray(stored.read_bytes())
    content[-3] ^= 1
    stored.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again = tokenise(TEXTS, None, tokenizer, 32)
    assert "Tokenising again" in caplog.text
    assert torch.equal(again.flat, first.flat)
    stored.write_bytes(b"short")
    assert torch.equal(tokenise(TEXTS, None, tokenizer, 32).flat, first.flat)


def test_a_trained_tokenizer_is_kept(tmp_path: Path) -> None:
    first = trained_tokenizer(TEXTS, 60)
    [stored] = (tmp_path / "text").iterdir()
    assert trained_tokenizer(TEXTS, 60) == first
    stored.write_text("{")
    assert trained_tokenizer(TEXTS, 60).vocab_size == first.vocab_size
