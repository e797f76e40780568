"""Texts, pairs and files of them as the tokens that a network trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tl.batch import Inputs
from tl.data.text.known import TextTrainedOn
from tl.data.text.table import read_table
from tl.serving.readers.reader import Reader


class TextReader(Reader):
    """Reads texts, and pairs of them as tuples, by the tokenizer of training.

    Args:
        known: How the source was read in training.
        columns: The columns of its tables that held ``text`` and ``pair``.
        encoding: Encoding of its files.
    """

    takes = "a text, a pair of texts as a tuple, a list of these, or a file of texts as a Path"
    modality = "texts"

    def __init__(
        self, known: TextTrainedOn, columns: Mapping[str, str | None], encoding: str = "utf-8"
    ) -> None:
        self._text, self._pair = columns.get("text") or "text", columns.get("pair")
        self._encoding = encoding
        read = (known.tokenizer.hash, known.max_length, self._text, self._pair, encoding)
        self._way = str(read)
        self._tokenizer = known.tokenizer
        self._backend = known.tokenizer.backend()
        self._backend.enable_truncation(known.max_length)

    @property
    def way(self) -> str:
        """Tokenizer, length, and columns and encoding of a table."""
        return self._way

    def spread(self, given: object) -> tuple[list[Any], bool]:
        """Tell one text from several; a path is a file of texts, as training reads them."""
        if isinstance(given, list):
            return [sample for each in given for sample in self._texts(each)], False
        return self._texts(given), not isinstance(given, Path)

    def _texts(self, given: object) -> list[Any]:
        if not isinstance(given, Path):
            return [given]
        table = read_table(given, self._encoding, self._text)
        texts = table.column(self._text, "text")
        if self._pair is None:
            return texts
        return [*zip(texts, table.column(self._pair, "pair"), strict=True)]

    def read(self, sample: object) -> Any:  # noqa: ANN401
        """Cut a text into tokens; a text longer than in training loses its end."""
        texts: tuple[Any, ...] = (sample,)
        if isinstance(sample, tuple) and len(sample) == 2:  # noqa: PLR2004 - a pair
            texts = sample
        if others := [text for text in texts if not isinstance(text, str)]:
            raise ValueError(f"{type(others[0]).__name__} is not a text; expected {self.takes}")
        if not all(text.strip() for text in texts):
            raise ValueError("the text is empty")
        return self._backend.encode(*texts)

    def join(self, samples: Sequence[Any]) -> Inputs:
        """Return token numbers and attention mask ``(N, L)`` int64, padded to the longest."""
        longest = max(len(each.ids) for each in samples)
        ids = torch.full((len(samples), longest), self._tokenizer.pad_id)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, each in enumerate(samples):
            ids[row, : len(each.ids)] = torch.tensor(each.ids)
            types[row, : len(each.ids)] = torch.tensor(each.type_ids)
            mask[row, : len(each.ids)] = 1
        found = {"input_ids": ids, "attention_mask": mask}
        return {**found, "token_type_ids": types} if types.any() else found
