"""Mistakes in words, tokens a second, padding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.small import trainer
from tests.text import build, read
from tl.callbacks import TextBoard
from tl.callbacks.text_board import TextMistakes, tokenizer_of


def test_the_most_confident_mistakes_are_kept() -> None:
    mistakes = TextMistakes(2)
    inputs = {
        "input_ids": torch.tensor([[2, 7, 3], [2, 8, 0], [2, 9, 3], [2, 5, 3]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]]),
    }
    logits = torch.tensor([[9.0, 0.0], [3.0, 0.0], [0.0, 1.0], [8.0, 0.0]])
    mistakes.add(
        inputs, logits.softmax(1), torch.tensor([0, 1, 0, -1])
    )  # right, wrong, wrong, no label
    assert [(true, predicted, tokens) for _, true, predicted, tokens in mistakes.kept] == [
        (1, 0, [2, 8]),
        (0, 1, [2, 9, 3]),
    ]
    table = mistakes.table(["yes", "no"], lambda tokens: f"<{tokens}|>")
    assert table.splitlines()[2] == "| 95% | no | yes | <[2, 8] > |"
    assert "| 1 | 0 |" in mistakes.table(None, str)
    mistakes.add(inputs, torch.tensor([[0.0, 9.0]] * 4).softmax(1), torch.tensor([0, 0, 0, 0]))
    assert len(mistakes.kept) == 2


def test_a_run_shows_them(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    data = read(targets=["topic", "sentiment"], masked_tokens=0.15)
    run = trainer(tmp_path, logger=logger, callbacks=[TextBoard(mistakes=4)])
    run.fit(build(data), data)
    shown = EventAccumulator(logger.log_dir)
    shown.Reload()
    tags = shown.Tags()
    assert {"perf/tokens_per_second", "perf/padding_share"} <= set(tags["scalars"])
    padding = [event.value for event in shown.Scalars("perf/padding_share")]
    assert all(0 <= share < 0.5 for share in padding)
    texts = [tag for tag in tags["tensors"] if "mistakes" in tag]
    assert texts == ["val/mistakes/sentences_sentiment/text_summary"] or len(texts) == 2
    said = shown.Tensors(texts[0])[-1].tensor_proto.string_val[0].decode()
    assert " and everyone said that it was" in said


def test_tokens_are_counted_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 100.0, 101.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    logged: list[dict[str, float]] = []
    made: Any = SimpleNamespace(
        world_size=2,
        log_every_n_steps=1,
        global_step=1,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_should_accumulate=lambda: False)),
    )
    module: Any = SimpleNamespace(log_dict=logged.append)
    board = TextBoard()
    board.on_train_start(made, module)

    def step(*lengths: int) -> None:
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        inputs = {"input_ids": mask, "attention_mask": mask}
        board.on_train_batch_end(made, module, None, (inputs, torch.zeros(len(lengths))), 0)

    step(3, 3)  # the first step of an epoch starts the clock
    step(4, 2)
    board.on_validation_epoch_start(made, module)
    step(5, 5)  # the first after validation too
    step(8, 2)
    assert logged == [
        {"perf/tokens_per_second": 6 * 2 / 2.0, "perf/padding_share": 2 / 8},
        {"perf/tokens_per_second": 10 * 2 / 1.0, "perf/padding_share": 6 / 16},
    ]


def test_the_tokenizer_of_several_sources_is_found() -> None:
    source = read()
    several = SimpleNamespace(sources={"a": source}, tokenizer=None)
    assert tokenizer_of(several) is tokenizer_of(source) is source.tokenizer
    assert tokenizer_of(SimpleNamespace(tokenizer="a name")) is None


def test_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="`mistakes` must be 0 or more, got -1"):
        TextBoard(-1)
