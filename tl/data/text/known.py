"""What a checkpoint records of its training texts, and which texts a model can read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from tl.checkpoints.errors import CheckpointError
from tl.data.errors import DataError, listed
from tl.data.naming import composed_names
from tl.data.text.options import TextOptions
from tl.data.text.tokenizer import TextTokenizer, find_tokenizer, tokenizer_record
from tl.data.trained_on import record_of


@dataclass(frozen=True)
class TextTrainedOn:
    """A source of text as a checkpoint describes it: what an evaluation must match."""

    fingerprint: str  # of what was loaded to train and validate
    classes: dict[str, tuple[str, ...]]  # names by target, in the order of the labels
    tokenizer: TextTokenizer
    max_length: int
    val_size: float
    label_fraction: float
    seed: int
    labels: str = "all"  # or none, if training saw none

    def same_tokenizer(self, other: TextTokenizer, where: str) -> None:
        """Refuse a tokenizer that differs from the checkpoint's.

        Raises:
            DataError: If it differs; names both.
        """
        if other.hash != self.tokenizer.hash:
            raise _other_tokenizer(self.tokenizer.hash, other, where)


def read_text_record(record: Mapping[str, Any]) -> TextTrainedOn | None:
    """Read the description of one source in a checkpoint; ``None`` if it is not one of text."""
    if not isinstance(record.get("tokenizer"), Mapping):
        return None
    return TextTrainedOn(
        fingerprint=str(record["fingerprint"]),
        classes={str(t): composed_names(names) for t, names in record["class_names"].items()},
        tokenizer=TextTokenizer.from_record(record["tokenizer"]),
        max_length=int(record["max_length"]),
        val_size=float(record["val_size"]),
        label_fraction=float(record["label_fraction"]),
        seed=int(record["seed"]),
        labels=str(record.get("labels", "all")),
    )


def check_model(
    trainer: Trainer | None, tokenizer: TextTokenizer, longest: int, *, starts: bool
) -> None:
    """Refuse a model that cannot read these tokens, or was trained with another tokenizer.

    Args:
        trainer: The Trainer with the model.
        tokenizer: The tokenizer of the data.
        longest: Number of tokens of the longest text.
        starts: Also check the source of the initial weights, as before training.

    Raises:
        DataError: If the vocabulary is larger than the embedding, a text is longer than the model
            can read, or the source of its weights has another tokenizer.
    """
    module = getattr(trainer, "lightning_module", None)
    backbone = getattr(module, "backbone", None)
    words = getattr(backbone, "vocab_size", None)
    if isinstance(words, int) and tokenizer.vocab_size > words:
        raise DataError(
            f"The tokenizer has {tokenizer.vocab_size} word pieces, the model's embedding {words}. "
            "Lower the data's `vocab_size`, or raise that of the model's configuration."
        )
    most = getattr(backbone, "max_length", None)
    if isinstance(most, int) and longest > most:
        raise DataError(
            f"The longest text has {longest} tokens, the model reads {most}. Set the data's "
            f"`max_length` to {most} or less."
        )
    trained = getattr(backbone, "tokenizer_hash", None)
    if trained is not None and trained != tokenizer.hash:
        raise _other_tokenizer(str(trained), tokenizer, "the data")
    start = getattr(module, "init_from", None)
    there = tokenizer_hash(str(start)) if start and starts else None
    if there is not None and there != tokenizer.hash:
        raise _other_tokenizer(there, tokenizer, "the data", str(start))


def tokenizer_hash(start: str) -> str | None:
    """Return the hash of the tokenizer of a checkpoint or of a folder with weights."""
    if (Path(start) / "tokenizer.json").is_file():
        return find_tokenizer(start).hash
    record = None
    with suppress(CheckpointError):  # the module says so where its weights are needed
        record = tokenizer_record(start)
    return None if record is None else str(record.get("hash"))


def _other_tokenizer(
    there: str, here: TextTokenizer, where: str, checkpoint: str | None = None
) -> DataError:
    name = checkpoint or "the checkpoint or its folder"
    return DataError(
        f"The weights were trained with the tokenizer {there}, {where} has {here.hash}: the same "
        f"numbers mean other words. Set the data's `tokenizer` to {name}."
    )


class TextAsTrained(TextOptions, ABC):
    """The part of a source of text that follows a checkpoint.

    Attributes:
        trained_on: The record of the evaluated checkpoint.
    """

    trained_on: TextTrainedOn | None
    _fingerprint: str | None
    _to_resume = "texts, tokenizer, label fraction, validation size and seed"

    @abstractmethod
    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Return class names by target."""

    @property
    def withholds(self) -> bool:
        """Whether training sees no labels; in an evaluation, whether it saw none."""
        return (self.trained_on.labels if self.trained_on else self.labels) == "none"

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

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> bool:
        """Evaluate as a checkpoint was trained: by its tokenizer, classes, length and split.

        Args:
            record: The result of `describe` when the checkpoint was written, by source or of one.
            sources: Number of sources, if this is one of several.

        Returns:
            Whether this changes anything: `setup` has to load again.

        Raises:
            DataError: If the checkpoint has another tokenizer than the named one, or other targets.
        """
        known = read_text_record(record_of(record, self.data_name, sources or 1))
        if known is None:
            rank_zero_info(
                f"tl: the checkpoint does not hold the classes and the tokenizer of "
                f"{self.data_name}; using those of the texts found here."
            )
            if changed := self.trained_on is not None:
                self._forget()  # of another checkpoint
            return changed
        if known == self.trained_on:
            return False
        same = self.trained_on is None and "train" in self.splits
        if same and self.fingerprint == known.fingerprint:
            return False  # the very data that were trained on
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
        return True

    def _forget(self) -> None:
        """Restore the options that a checkpoint replaced."""
        for name, value in self._replaced.items():
            object.__setattr__(self, name, value)
        self._replaced.clear()
        self.trained_on, self._fingerprint = None, None
        self.splits.clear()
