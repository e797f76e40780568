"""Batches of texts: plain, masked, both, and to predict."""

from __future__ import annotations

from typing import Any

import torch

from tl.data import SyntheticTextDataModule
from tl.data.text.text_set import Masking, TextSet


def texts() -> tuple[TextSet, Masking]:
    targets = ["topic", "sentiment"]
    data = SyntheticTextDataModule(train_size=40, targets=targets, masked_tokens=0.3)
    data.setup("fit")
    loader: Any = data.val_dataloader()
    return data.splits["train"], loader.dataset.masking


def test_masks_alone_or_beside_the_targets() -> None:
    data, masking = texts()
    some = torch.tensor([3, 0])
    inputs, targets = data[some]
    assert targets["topic"].tolist() == data.targets["topic"][some].tolist()
    both = data.masked(masking)[some]
    assert both.keys() == {"text", "masked"}
    assert torch.equal(both["text"][0]["input_ids"], inputs["input_ids"])
    hidden, was = both["masked"]
    chosen = was != -1
    assert torch.equal(was[chosen], inputs["input_ids"][chosen])
    assert torch.equal(hidden["input_ids"][~chosen], inputs["input_ids"][~chosen])
    alone = TextSet(data.tokens, {}, data.texts, data.pad_id, types=False).subset(data.index)
    assert torch.equal(alone.masked(masking)[some][1], was)


def test_a_mask_follows_the_text_and_the_epoch() -> None:
    data, masking = texts()
    at = {"epoch": 0}
    masked = data.masked(masking, lambda: at["epoch"])
    first = masked[torch.tensor([5])]["masked"][1]
    part = data.subset(torch.tensor([5])).masked(masking, lambda: 0)
    assert torch.equal(part[torch.tensor([0])]["masked"][1], first)
    at["epoch"] = 1
    assert not torch.equal(masked[torch.tensor([5])]["masked"][1], first)
    evaluated = data.masked(masking)
    assert torch.equal(
        evaluated[torch.tensor([5])]["masked"][1], evaluated[torch.tensor([5])]["masked"][1]
    )


def test_what_is_predicted_has_positions() -> None:
    data, masking = texts()
    _, positions = data.masked(masking).unlabelled()[torch.tensor([4, 2])]
    assert positions.tolist() == [4, 2]


def test_the_digest_follows_tokens_and_targets() -> None:
    data, _ = texts()
    assert data.digest() == texts()[0].digest()
    assert data.subset(torch.arange(5)).digest() != data.subset(torch.arange(1, 6)).digest()
    changed = data.subset(torch.arange(len(data)))
    changed.all_targets = {**data.all_targets, "topic": data.all_targets["topic"].flip(0)}
    assert changed.digest() != data.digest()


def test_a_beginning_holds_each_class_in_proportion() -> None:
    data, _ = texts()
    topics = data.targets["topic"][data.mixed()]
    assert len(set(topics[:12].tolist())) >= 5
