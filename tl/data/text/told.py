"""What a source of text says of its splits when training starts."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tl.counting import counted
from tl.data.errors import listed


def warn_of_copies(name: str, train: Sequence[str], split: str, texts: Sequence[str]) -> None:
    """Warn of evaluated texts that also train: scores on them say little about new ones.

    Args:
        name: Name of the source.
        train: Training texts.
        split: Name of the evaluated split.
        texts: Its texts.
    """
    seen = set(train)
    if copies := [text for text in texts if text in seen]:
        rank_zero_warn(
            f"{name}: {len(copies)} of {len(texts)} {split} texts are also training texts, such as "
            f"{copies[0][:60]!r}; scores on them are too good. Remove the copies."
        )


def tell_sizes(name: str, train: Tensor, val: int, pieces: int) -> None:
    """Tell how many texts train and validate.

    Args:
        name: Name of the source.
        train: Number of tokens of each training text ``(N,)``.
        val: Number of validation texts.
        pieces: Word pieces of the tokenizer.
    """
    rank_zero_info(
        f"tl: {name}: {counted(len(train), 'text')} to train "
        f"({counted(int(train.sum()), 'token')}), {val:,} to validate; {pieces} word pieces."
    )


def warn_of_absent(
    name: str, column: str, classes: Sequence[str], target: Tensor, fraction: float
) -> None:
    """Warn of classes without a training text.

    Args:
        name: Name of the source.
        column: The target.
        classes: Class names in the order of the labels.
        target: Labels that train ``(N,)``.
        fraction: The `label_fraction`.
    """
    gone = [known for i, known in enumerate(classes) if not bool((target == i).any())]
    if gone:
        rank_zero_warn(
            f"{name}: {len(gone)} of {len(classes)} classes of {column} have no training text at "
            f"`label_fraction={fraction:g}`: {listed(gone, 5)}."
        )
