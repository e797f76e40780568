"""Synthetic sentences as a data source: runs on text without a download."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tl.data.split import Split
from tl.data.text.grammar import sentences
from tl.data.text.source import TextSource
from tl.data.text.table import Table


class SyntheticTextDataModule(TextSource):
    """Synthetic grammatical sentences with a topic and a sentiment.

    See `tl.data.text.grammar.sentences` for their structure. The
    columns are ``text``, ``topic`` (6 classes) and ``sentiment`` (2 classes).

    Args:
        train_size: Number of training sentences, some of which validate.
        test_size: Number of test sentences; none is a training sentence.
        draw_seed: Seed of the sentences, separate from `seed`: runs with different seeds read the
            same sentences.
        predict_file: File to predict: a table with a column ``text``, or a ``.txt`` with one
            sentence per line. By default the test sentences.
        name: Name of the source.
        vocab_size: Word pieces of a trained tokenizer.
        max_length: Maximum number of tokens of a text, including special tokens.
        **shared: Options of all sources of text, see `TextSource`; the targets are ``topic`` and
            ``sentiment``.

    Raises:
        ValueError: If an option is out of range.
    """

    _fixed = ("text", "pair")

    def __init__(
        self,
        train_size: int = 5000,
        test_size: int = 1000,
        draw_seed: int = 0,
        predict_file: str | None = None,
        name: str = "sentences",
        *,
        vocab_size: int = 1000,
        max_length: int = 64,
        **shared: Any,  # noqa: ANN401 - the types are those of the base
    ) -> None:
        super().__init__(
            name=name,
            text="text",
            pair=None,
            vocab_size=vocab_size,
            max_length=max_length,
            **shared,
        )
        for option, value in (("train_size", train_size), ("test_size", test_size)):
            if not 2 <= value <= _MOST:  # noqa: PLR2004 - one to train, one to validate
                raise ValueError(f"`{option}` must be 2 to {_MOST}, got {value}.")
        self.train_size, self.test_size = train_size, test_size
        self.draw_seed = draw_seed
        self.predict_file = predict_file

    def kind(self) -> str:
        """Return ``generated``."""
        return "generated"

    def read(self, split: Split) -> Table | None:
        """Generate a split; test sentences follow the training sentences, and differ from them."""
        if split == "val":
            return None
        first, count = (
            (0, self.train_size) if split == "train" else (self.train_size, self.test_size)
        )
        rows = list(islice(sentences(self.draw_seed), first, first + count))
        columns = {name: [row[i] for row in rows] for i, name in enumerate(_COLUMNS)}
        return Table(columns, range(1, count + 1), f"the synthetic {split} sentences")


_COLUMNS = ("text", "topic", "sentiment")
_MOST = 500_000  # the grammar has some millions
