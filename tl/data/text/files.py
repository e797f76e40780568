"""Files of text as a data source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tl.data.errors import DataError, listed
from tl.data.naming import name_of_table
from tl.data.split import Split
from tl.data.text.source import TextSource
from tl.data.text.table import SPLITS, Table, read_table


class TextDataModule(TextSource):
    """Texts in files: ``.csv``, ``.tsv`` or ``.jsonl``, also ``.xz`` and ``.gz``.

    Texts are tokenised once, on all cores, and cached by content and tokenizer (``$TL_CACHE``).
    Batches are the dicts that Transformers' models expect, padded to their longest text.

    Args:
        train: File of the training texts, or of all texts if `split` names a column.
        val: File of the validation texts; by default a part of the training texts.
        test: File of the test texts.
        split: Column of `train` that names the split of each row: train, val (or valid, validation,
            dev) or test.
        encoding: Encoding of the files.
        predict_file: File to predict: a table with the same text columns, or a ``.txt`` with one
            sentence per line. By default the test texts.
        name: Name of the source; by default that of the file, or of its folder for ``train``.
        **shared: Options of all sources of text, see `TextSource`.

    Raises:
        ValueError: If an option is out of range.
    """

    def __init__(
        self,
        train: str,
        val: str | None = None,
        test: str | None = None,
        split: str | None = None,
        encoding: str = "utf-8",
        predict_file: str | None = None,
        name: str | None = None,
        **shared: Any,  # noqa: ANN401 - the types are those of the base
    ) -> None:
        super().__init__(name=name or name_of_table(Path(train)), **shared)
        self.train, self.val, self.test = train, val, test
        self.split, self.encoding = split, encoding
        self.predict_file = predict_file
        self._parts: dict[Split, Table] | None = None

    def read(self, split: Split) -> Table | None:
        """Read a split from its file, or select its rows of the training file.

        Raises:
            DataError: If the file cannot be read, or its split column holds another word.
        """
        path: str | None = getattr(self, split)
        if path is not None and (split != "train" or self.split is None):
            return read_table(path, self.encoding)
        return self._by_column().get(split) if self.split is not None else None

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data in plain types, also of how files are read."""
        found = super().describe()
        columns = found["columns"] | {"split": self.split}
        return found | {"columns": columns, "encoding": self.encoding}

    def _by_column(self) -> dict[Split, Table]:
        if self._parts is None:
            whole = read_table(self.train, self.encoding)
            expected = f"; expected one of {listed(list(SPLITS))}."
            parts = whole.by_split(str(self.split), expected)
            if "train" not in parts:
                raise DataError(f"{whole.path} has no rows of the split train ({self.split}).")
            self._parts = parts
        return self._parts

    def reload(self, *, tables: bool = False) -> None:
        """Let the next `setup` load everything again; with `tables` also the rows by split."""
        super().reload(tables=tables)
        if tables:
            self._parts = None
