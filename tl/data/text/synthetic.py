"""Synthetic sentences as a data source, so that text runs anywhere."""

from __future__ import annotations

from itertools import islice
from typing import Any

from tl.data.text.grammar import sentences
from tl.data.text.source import Split, TextSource
from tl.data.text.table import Table, read_table


class SyntheticTextDataModule(TextSource):
    """Grammatical sentences with a topic and a sentiment, made on the spot from a seed.

    They need no download and have a known structure: see `tl.data.text.grammar.sentences`. The
    columns are ``text``, ``topic`` (6 classes) and ``sentiment`` (2 classes).

    Args:
        train_size: Training sentences, of which a part validates.
        test_size: Test sentences, none of them a training sentence.
        draw_seed: Seed of the sentences, apart from `seed`, so that runs with several seeds read
            the same ones.
        predict_file: File that ``predict`` reads: a table with a column ``text``, or ``.txt`` with
            a sentence a line. By default the test sentences.
        name: Name of the source.
        vocab_size: Word pieces of a trained tokenizer.
        max_length: Most tokens of a text, special ones included.
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
        """Say where the texts come from: they are ``generated``."""
        return "generated"

    def read(self, split: Split) -> Table | None:
        """Draw a split; test sentences follow the training ones, and differ from them."""
        if split == "val":
            return None
        first, count = (
            (0, self.train_size) if split == "train" else (self.train_size, self.test_size)
        )
        rows = list(islice(sentences(self.draw_seed), first, first + count))
        columns = {name: [row[i] for row in rows] for i, name in enumerate(_COLUMNS)}
        return Table(columns, range(1, count + 1), f"the synthetic {split} sentences")

    def read_to_predict(self) -> Table | None:
        """Read the file of sentences to predict, if there is one."""
        return None if self.predict_file is None else read_table(self.predict_file)


_COLUMNS = ("text", "topic", "sentiment")
_MOST = 500_000  # the grammar has some millions
