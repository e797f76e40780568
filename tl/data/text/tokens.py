"""Tokens of many texts in one tensor, computed once and cached."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tl.data.cache import default_cache, write_whole
from tl.data.progress import progress
from tl.data.text.tokenizer import TextTokenizer, train_wordpiece

_log = logging.getLogger(__name__)
_AT_ONCE = 10_000  # texts per update of the progress bar; all cores share them
_FORMAT = "1"


@dataclass(frozen=True)
class Tokens:
    """Tokens of all texts, concatenated.

    Args:
        flat: All tokens ``(T,)`` int32.
        lengths: Number of tokens of each text ``(N,)`` int32.
        firsts: Number of tokens that belong to the first text of a pair ``(N,)`` int32; the others
            have token type 1.
        cut: Number of texts that were truncated.
    """

    flat: Tensor
    lengths: Tensor
    firsts: Tensor
    cut: int

    def __post_init__(self) -> None:
        ends = self.lengths.long().cumsum(0)
        object.__setattr__(self, "starts", ends - self.lengths)

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.lengths)

    def batch(self, rows: Tensor, pad_id: int, *, types: bool) -> dict[str, Tensor]:
        """Return the inputs of a Transformers model, padded to the longest text of the batch.

        Args:
            rows: Texts ``(B,)``.
            pad_id: Id of the padding token.
            types: Include ``token_type_ids``.

        Returns:
            ``input_ids`` and ``attention_mask`` ``(B, L)`` int64.
        """
        lengths = self.lengths[rows].long()
        places = torch.arange(int(lengths.max()))
        there = places < lengths[:, None]
        starts: Tensor = self.starts[rows]  # type: ignore[attr-defined]  # set above
        found = self.flat[torch.where(there, starts[:, None] + places, 0)].long()
        batch = {"input_ids": found.masked_fill(~there, pad_id), "attention_mask": there.long()}
        if types:
            batch["token_type_ids"] = (there & (places >= self.firsts[rows][:, None])).long()
        return batch

    def digest(self, rows: Tensor) -> bytes:
        """Return a hash of the tokens of some texts, in order."""
        lengths = self.lengths[rows].long()
        starts: Tensor = self.starts[rows]  # type: ignore[attr-defined]  # set above
        before = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum())) + (starts - before).repeat_interleave(lengths)
        digest = hashlib.sha256()
        for part in (lengths.int(), self.firsts[rows], self.flat[places]):
            digest.update(np.ascontiguousarray(part.numpy()).data)
        return digest.digest()


def text_hash(texts: Sequence[str], pairs: Sequence[str] | None) -> str:
    """Return a hash of texts, in order."""
    digest = hashlib.sha256()
    for part in (texts, pairs or ()):
        digest.update(f"{len(part)};".encode())
        for text in part:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(f"{len(content)}:".encode())
            digest.update(content)
    return digest.hexdigest()


def tokenise(
    texts: Sequence[str], pairs: Sequence[str] | None, tokenizer: TextTokenizer, max_length: int
) -> Tokens:
    """Tokenise texts on all cores, or read their tokens from the cache.

    Args:
        texts: The texts.
        pairs: The second text of each pair; ``None`` without pairs.
        tokenizer: The tokenizer.
        max_length: Maximum number of tokens of a text or pair; longer ones are truncated, in pairs
            the longer text.
    """
    key = f"{_FORMAT} {text_hash(texts, pairs)} {tokenizer.hash} {max_length}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    stored = default_cache() / "text" / f"{name}.safetensors"
    if (found := _read(stored)) is not None:
        return found
    backend = tokenizer.backend()
    backend.enable_truncation(max_length)
    flat: list[int] = []
    lengths, firsts, cut = [], [], 0
    starts = range(0, len(texts), _AT_ONCE)
    for first in progress(starts, len(starts), "Tokenising", least=2):
        part: Sequence[str | tuple[str, str]] = texts[first : first + _AT_ONCE]
        if pairs is not None:
            part = list(zip(texts[first : first + _AT_ONCE], pairs[first:], strict=False))
        for encoding in backend.encode_batch_fast(part):
            flat += encoding.ids
            lengths.append(len(encoding.ids))
            firsts.append(lengths[-1] - sum(encoding.type_ids))
            cut += bool(encoding.overflowing)
    rows = [torch.tensor(part, dtype=torch.int32) for part in (flat, lengths, firsts)]
    made = Tokens(rows[0], rows[1], rows[2], cut)
    _write(stored, made)
    return made


def trained_tokenizer(texts: Sequence[str], vocab_size: int) -> TextTokenizer:
    """Train a WordPiece tokenizer on texts, or read the cached one that was trained on them."""
    key = f"{_FORMAT} {text_hash(texts, None)} wordpiece {vocab_size}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    stored = default_cache() / "text" / f"{name}.json"
    if stored.is_file():
        try:
            return TextTokenizer.of(stored.read_text(encoding="utf-8"), str(stored))
        except (ValueError, OSError) as error:
            _log.warning("Training the tokenizer again: %s", error)
    made = train_wordpiece(texts, vocab_size)
    _put(stored, made.content.encode())
    return made


def _read(stored: Path) -> Tokens | None:
    if not stored.is_file():
        return None
    try:
        with safetensors.safe_open(stored, "pt") as file:
            kept = file.metadata()
            flat, lengths, firsts = map(file.get_tensor, ("flat", "lengths", "firsts"))
        if kept["sha256"] == _checksum([flat, lengths, firsts]):
            return Tokens(flat, lengths, firsts, int(kept["cut"]))
        reason = "wrong checksum"
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
        reason = str(error)
    _log.warning("Tokenising again: the cached tokens %s are damaged (%s).", stored, reason)
    return None


def _write(stored: Path, tokens: Tokens) -> None:
    parts = {"flat": tokens.flat, "lengths": tokens.lengths, "firsts": tokens.firsts}
    kept = {"sha256": _checksum([*parts.values()]), "cut": str(tokens.cut)}
    _put(stored, safetensors.torch.save(parts, kept))


def _checksum(parts: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.numpy().data)
    return digest.hexdigest()


def _put(stored: Path, content: bytes) -> None:
    if reason := write_whole(stored, lambda file: file.write(content)):
        _log.warning(
            "Tokens are not cached: cannot write %s (%s). Set TL_CACHE to a folder with room to "
            "tokenise only once.",
            stored,
            reason,
        )
