"""What a checkpoint records of its training texts, and which texts a model can read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from tl.checkpoints.errors import CheckpointError
from tl.data.errors import DataError
from tl.data.naming import composed_names
from tl.data.text.tokenizer import TextTokenizer, find_tokenizer, tokenizer_record


@dataclass(frozen=True)
class TextTrainedOn:
    """A source of text as a checkpoint describes it: what an evaluation must match.

    Args:
        fingerprint: Hash of the loaded training and validation texts.
        classes: Class names by target, in the order of the labels.
        tokenizer: The tokenizer.
        max_length: Maximum number of tokens of a text.
        val_size: Fraction of the training texts that validates.
        label_fraction: Fraction of the others that trains.
        seed: Seed of the split.
    """

    fingerprint: str
    classes: dict[str, tuple[str, ...]]
    tokenizer: TextTokenizer
    max_length: int
    val_size: float
    label_fraction: float
    seed: int

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
