"""Synthetic sentences as a source."""

from __future__ import annotations

import pytest
import torch

from tl.data import SyntheticTextDataModule


def test_splits_share_no_sentence_and_follow_the_seed_of_the_drawing() -> None:
    data = SyntheticTextDataModule(train_size=60, test_size=30, targets=["topic", "sentiment"])
    data.setup("fit")
    data.setup("test")
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 54,
        "val": 6,
        "test": 30,
    }
    texts = [{part.name(i) for i in range(len(part))} for part in data.splits.values()]
    assert len(set.union(*texts)) == 90
    assert data.fingerprint.startswith("generated:")
    assert data.num_classes == {"sentences_topic": 6, "sentences_sentiment": 2}
    same = SyntheticTextDataModule(train_size=60, targets=["topic", "sentiment"], seed=1)
    same.setup("fit")
    assert same.fingerprint != data.fingerprint  # another split
    assert torch.equal(same.splits["train"].tokens.flat, data.splits["train"].tokens.flat)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="`train_size` must be 2 to"):
        SyntheticTextDataModule(train_size=1, targets=["topic"])
