"""Operations of language models, counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import trainer
from tests.text import CONFIG, adam, build, read
from tl import TransferModule
from tl.backbones import LoraBackbone, ResNet20, TextBackbone
from tl.callbacks import Throughput
from tl.callbacks.text_compute import text_operations
from tl.tasks import Classification

WIDTH, INNER, LAYERS, CLASSES = 16, 32, 2, 6
# a product of matrices is 2 operations for each weight and token, three times with both gradients
PER_TOKEN = 3 * LAYERS * 2 * (4 * WIDTH**2 + 2 * WIDTH * INNER)
PER_PAIR = 3 * LAYERS * 2 * 2 * WIDTH  # queries with keys, and their weights with values


def batch(*lengths: int, padding: int = 0) -> Any:
    places = torch.arange(max(lengths) + padding)
    mask = (places < torch.tensor(lengths)[:, None]).long()
    inputs = {"input_ids": torch.ones_like(mask), "attention_mask": mask}
    return inputs, torch.zeros(len(lengths), dtype=torch.int64)


def test_operations_are_those_counted_by_hand() -> None:
    found = text_operations(build(read()), batch(4))
    assert found is not None
    assert found.per_token == PER_TOKEN
    assert found.per_pair == PER_PAIR
    head = 6 * WIDTH * CLASSES  # once a text
    wanted = PER_TOKEN * (4 + 9) + PER_PAIR * (16 + 81) + 2 * head
    assert float(found.of(batch(4, 9))) == wanted


def test_padding_takes_none() -> None:
    found = text_operations(build(read()), batch(4))
    assert found is not None
    assert torch.equal(found.of(batch(4, 9)), found.of(batch(9, 4, padding=30)))


def test_heads_on_tokens_read_each_of_them() -> None:
    data = read(targets="topic", masked_tokens=0.15)
    part = batch(4, 9)
    both = {"text": part, "masked": part}
    found = text_operations(build(data), both)
    assert found is not None
    words = data.tokenizer.vocab_size
    body = PER_TOKEN * 13 + PER_PAIR * 97
    heads = 2 * 6 * WIDTH * CLASSES + 13 * 6 * (WIDTH**2 + WIDTH * words)
    assert float(found.of(both)) == 2 * body + heads


def test_frozen_layers_need_no_gradients() -> None:
    frozen = build(read())
    frozen.backbone.requires_grad_(False)
    found = text_operations(frozen, batch(4))
    assert found is not None
    assert (found.per_token, found.per_pair) == (PER_TOKEN / 3, PER_PAIR / 3)
    assert found.heads == {None: (0, 4 * WIDTH * CLASSES)}


def test_adapted_and_other_networks() -> None:
    net = LoraBackbone(TextBackbone(config=CONFIG), rank=2, norms=False)
    adapted = TransferModule(net, Classification("a", 2), optimizer=adam)
    found = text_operations(adapted, batch(4))
    assert found is not None
    assert PER_TOKEN / 3 < found.per_token < PER_TOKEN  # no gradient of the frozen weights
    images = TransferModule(ResNet20(), Classification("a", 2), optimizer=adam)
    assert text_operations(images, (torch.zeros(2, 3, 8, 8), torch.zeros(2))) is None


@pytest.mark.parametrize("masks", [0.0, 0.15])
def test_a_run_logs_its_utilisation(masks: float, tmp_path: Path) -> None:
    data, seen = read(masked_tokens=masks), Throughput()
    module = build(data)
    made = trainer(tmp_path, max_epochs=1, log_every_n_steps=1, callbacks=[seen])
    made.fit(module, data)
    assert seen.mfu is not None
    assert 0 < seen.mfu < 1
    assert made.progress_bar_metrics["mfu"] > 0
    assert made.progress_bar_metrics["texts/s"] > 0
    assert "perf/images_per_second" not in made.callback_metrics
    # all steps but the first, with the numbers of the batches that were read
    found = text_operations(module, next(iter(data.train_dataloader())))
    assert found is not None
    batches = list(data.train_dataloader())
    wanted = sum(float(found.of(one)) for one in batches)
    assert 0.7 * wanted < float(seen._operations) < wanted
