"""Texts that are in training and evaluation: a leak."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_warn


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
