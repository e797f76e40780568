"""A step holds a batch of every source, and an evaluation every sample once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from tests.data.test_multitask import two
from tl.data import GeneratedDataModule, MultiTaskDataModule


@pytest.mark.parametrize(("length", "steps"), [("longest", 10), ("shortest", 2), (13, 13)])
def test_epoch_length(length: Any, steps: int) -> None:
    made = two(epoch_length=length)
    batches = [batch for batch, _, _ in made.train_dataloader()]
    assert len(batches) == steps
    assert all(len(b[s][0]) == 20 for b in batches for s in ("small", "large"))


def test_the_shorter_source_is_recycled_in_a_new_order() -> None:
    made = two()
    labels = torch.cat([b["small"][1] for b, _, _ in made.train_dataloader()])
    passes = [tuple(p.tolist()) for p in torch.split(labels, 50)]
    assert len(passes) == 4
    assert all(Counter(p) == Counter(passes[0]) for p in passes)
    assert len(set(passes)) == 4


def test_evaluation_gives_every_image_of_every_source_once() -> None:
    made = two(eval_batch_size=30)
    for loader, wanted in (
        (made.val_dataloader(), {"small": 50, "large": 200}),
        (made.test_dataloader(), {"small": 30, "large": 100}),
    ):
        seen: dict[str, list[torch.Tensor]] = {"small": [], "large": []}
        for batch, _, _ in loader:
            for name, part in batch.items():
                if part is not None:
                    seen[name].append(part[0])
        for name, parts in seen.items():
            images = torch.cat(parts)
            assert len(images) == wanted[name]
            assert len(set(map(bytes, images.flatten(1).numpy()))) == wanted[name]


def test_sources_of_their_own_batch_size() -> None:
    sources = {
        "a": GeneratedDataModule(train_size=100, batch_size=8),
        "b": GeneratedDataModule(train_size=100),
    }
    made = MultiTaskDataModule(sources=sources, batch_size=16)
    made.setup("fit")
    batch, _, _ = next(iter(made.train_dataloader()))
    assert {name: len(images) for name, (images, _) in batch.items()} == {"a": 8, "b": 16}
