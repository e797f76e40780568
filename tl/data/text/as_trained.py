"""Evaluation of a source of text as a checkpoint was trained: tokenizer, classes, length, split."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from tl.data.errors import DataError, listed
from tl.data.text.known import TextTrainedOn, read_text_record
from tl.data.text.options import TextOptions
from tl.data.text.tokenizer import find_tokenizer
from tl.data.trained_on import record_of, same_data


class TextAsTrained(TextOptions, ABC):
    """The part of a source of text that follows a checkpoint.

    Attributes:
        trained_on: The record of the evaluated checkpoint.
    """

    trained_on: TextTrainedOn | None
    _fingerprint: str | None

    @abstractmethod
    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Return class names by target."""

    def kind(self) -> str:
        """Return where the texts come from: ``real`` or ``generated``."""
        return "real"

    @property
    def fingerprint(self) -> str:
        """Kind of the data and a hash of the tokens and targets that train and validate."""
        if "train" not in self.splits and self.trained_on is not None:
            return self.trained_on.fingerprint
        if self._fingerprint is None:
            digest = hashlib.sha256(self.tokenizer.hash.encode())
            for split in ("train", "val"):
                digest.update(self.splits[split].digest())
            self._fingerprint = f"{self.kind()}:{digest.hexdigest()[:16]}"
        return self._fingerprint

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> None:
        """Evaluate as a checkpoint was trained: by its tokenizer, classes, length and split.

        Args:
            record: The result of `describe` when the checkpoint was written, by source or of one.
            sources: Number of sources, if this is one of several.

        Raises:
            DataError: If the checkpoint has another tokenizer than the named one, or other targets.
        """
        known = read_text_record(record_of(record, self.data_name, sources or 1))
        if known is None or known == self.trained_on:
            return
        same = self.trained_on is None and "train" in self.splits
        if same and self.fingerprint == known.fingerprint:
            return  # the very data that were trained on
        if self.tokenizer_name is not None:
            known.same_tokenizer(find_tokenizer(self.tokenizer_name), f"`{self.tokenizer_name}`")
        if set(self.kinds) != set(known.classes):
            raise DataError(
                f"The checkpoint was trained on the targets {listed(sorted(known.classes)) or '-'},"
                f" {self.data_name} gives {listed(sorted(self.kinds)) or '-'}; choose the same "
                "`targets`."
            )
        self._forget()
        self.trained_on = known
        for name in ("max_length", "seed", "val_size", "label_fraction"):
            self._replaced[name] = getattr(self, name)
            object.__setattr__(self, name, getattr(known, name))

    def _forget(self) -> None:
        """Restore the options that a checkpoint replaced."""
        for name, value in self._replaced.items():
            object.__setattr__(self, name, value)
        self._replaced.clear()
        self.trained_on, self._fingerprint = None, None
        self.splits.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must match."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other data.

        Raises:
            DataError: If the fingerprint differs from the checkpoint's.
        """
        if self.trainer is None or self.trainer.state.fn != "fit":
            return
        settings = "texts, tokenizer, label fraction, validation size and seed"
        then = str(state_dict.get("fingerprint"))
        same_data(self.data_name, then, self.fingerprint, settings)
