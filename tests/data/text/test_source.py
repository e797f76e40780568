"""Runs on text: resumed bit for bit, evaluated as trained, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tests.small import trainer
from tests.text import CONFIG, build, read
from tl import MultiTaskModule, TransferModule
from tl.backbones import TextBackbone
from tl.data.errors import DataError

BOTH = ["topic", "sentiment"]
CASES: dict[str, dict[str, Any]] = {
    "targets": {"targets": BOTH},
    "masks": {"targets": None, "masked_tokens": 0.15},
    "together": {"targets": BOTH, "masked_tokens": 0.15},
}


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.mark.parametrize("case", CASES)
def test_a_run_resumes_bit_for_bit_within_an_epoch(case: str, tmp_path: Path) -> None:
    def run(**settings: Any) -> Any:
        data = read(length_window=3, **CASES[case])
        keep = ModelCheckpoint(tmp_path, "step{step}", save_top_k=-1, every_n_train_steps=1)
        ckpt = settings.pop("ckpt_path", None)
        made = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep], **settings)
        module = build(data)
        made.fit(module, data, ckpt_path=ckpt)
        return module

    whole = run()
    resumed = run(ckpt_path=tmp_path / "stepstep=9.ckpt")  # the second of 7 steps of an epoch
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(whole)[name]), name


def test_a_beginning_of_the_labels_keeps_the_validation_texts() -> None:
    parts = {}
    for fraction in (0.1, 0.5, 1.0):
        data = read(label_fraction=fraction)
        data.setup("fit")
        parts[fraction] = data.splits
    val = parts[1.0]["val"].index
    assert all(torch.equal(part["val"].index, val) for part in parts.values())
    kept = {fraction: set(part["train"].index.tolist()) for fraction, part in parts.items()}
    assert kept[0.1] < kept[0.5] < kept[1.0]
    assert not kept[1.0] & set(val.tolist())
    assert len(set(parts[0.1]["train"].targets["topic"].tolist())) == 6


def test_every_evaluation_text_comes_once_shortest_first() -> None:
    data = read(eval_batch_size=7)
    data.setup("test")
    lengths = [batch["attention_mask"].sum(1) for batch, _ in data.test_dataloader()]
    found = torch.cat(lengths)
    assert torch.equal(found, data.splits["test"].lengths.sort().values.long())


def theirs(classes: int = 6) -> Any:
    """Transformers' own classifier, of the size of ours."""
    transformers: Any = pytest.importorskip("transformers")
    plain = {key: value for key, value in CONFIG.items() if key != "model_type"}
    config = transformers.BertConfig(**plain, num_labels=classes)
    torch.manual_seed(0)
    return transformers.AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("length_window", [1, 50])
def test_batches_feed_a_plain_model_of_transformers(length_window: int) -> None:
    data = read(length_window=length_window)
    data.setup("fit")
    net = theirs().eval()  # no dropout: one batch must be learned, whatever the words' numbers
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    inputs, labels = next(iter(data.train_dataloader()))
    for _ in range(60):
        loss = net(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.9 * losses[0]


def test_a_checkpoint_of_transformers_trainer_is_a_source(tmp_path: Path) -> None:
    transformers: Any = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    data = read()
    data.setup("fit")

    class OurBatches(transformers.Trainer):  # type: ignore[misc]  # without types
        def get_train_dataloader(self) -> list[dict[str, Tensor]]:
            return [{**inputs, "labels": labels} for inputs, labels in data.train_dataloader()]

    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=2, use_cpu=True, report_to=[], disable_tqdm=True
    )
    net = theirs()
    OurBatches(net, arguments, train_dataset=data.splits["train"]).train()
    folder = tmp_path / "checkpoint-2"
    inputs, _ = next(iter(data.train_dataloader()))
    with torch.no_grad():
        wanted = net.eval().bert(**inputs).last_hidden_state
    started = build(data, init_from=str(folder))
    named = TextBackbone(str(folder))
    for backbone in (started.backbone, named):
        with torch.no_grad():
            found = backbone.eval().model(**inputs).last_hidden_state  # type: ignore[operator]
        torch.testing.assert_close(found, wanted)
    trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(started, data)
    # the tokenizer in the folder is the one to read its words by
    (folder / "tokenizer.json").write_text(read(train_size=60, vocab_size=300).tokenizer.content)
    with pytest.raises(DataError, match="The weights were trained with the tokenizer"):
        trainer(tmp_path).fit(build(data, init_from=str(folder)), data)


def test_a_model_that_cannot_read_the_texts_is_refused(tmp_path: Path) -> None:
    data = read()
    for change, said in (
        ({"vocab_size": 100}, "word pieces, the model's embedding 100"),
        ({"max_position_embeddings": 9}, "tokens, the model reads 9. Set the data's `max_length`"),
    ):
        net = TextBackbone(config={**CONFIG, **change})
        with pytest.raises(DataError, match=said):
            trainer(tmp_path).fit(TransferModule(net, data.task), data)


def test_masks_train_beside_labels_in_one_pass(tmp_path: Path) -> None:
    data = read(**CASES["together"])
    module = build(data)
    calls: list[int] = []
    assert isinstance(module, MultiTaskModule)
    inner: Any = module.backbone.model
    inner.register_forward_pre_hook(
        lambda _, __, given: calls.append(len(given["input_ids"])), with_kwargs=True
    )
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=0)
    run.fit(module, data)
    assert calls == [32] * 7  # 16 texts, plain and masked
    names = {"sentences_topic", "sentences_sentiment", "sentences_tokens"}
    assert {f"train/{name}/loss" for name in names} <= run.callback_metrics.keys()
