"""Runs on text: resumed bit for bit, evaluated as trained, refused where they do not fit."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tests.small import trainer
from tests.text import CONFIG, adam, build, read
from tl import MultiTaskModule, TransferModule
from tl.backbones import TextBackbone
from tl.data import TextDataModule
from tl.data.errors import DataError
from tl.data.text import source as home
from tl.data.text.grammar import sentences
from tl.data.text.tokenizer import train_wordpiece
from tl.data.trained_on import readable

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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a classification, and of masked tokens beside it."""
    folder = tmp_path_factory.mktemp("trained")
    for name, options in (("labels", {}), ("masks", CASES["masks"])):
        data = read(**options)
        keep = ModelCheckpoint(folder, name)
        run = trainer(folder, max_epochs=1, enable_checkpointing=True, callbacks=[keep])
        run.fit(build(data), data)
    return folder


def test_a_checkpoint_tells_all_that_an_evaluation_needs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new.txt").write_text("The soup simmered.\nA violin and the rocket played.\n")
    (tmp_path / "test.csv").write_text("text,topic\nThe soup,food\nThe violin,music\n")
    record = torch.load(trained / "labels.ckpt", weights_only=True)["tl"]["data"]
    json.dumps(record)  # plain types
    assert "packed" not in json.dumps(readable(record))
    data = TextDataModule(
        "no such file.csv",
        test=str(tmp_path / "test.csv"),
        targets="topic",
        predict_file=str(tmp_path / "new.txt"),
    )
    monkeypatch.setattr(home, "trained_tokenizer", lambda *_: pytest.fail("trained again"))
    data.adopt(record)
    assert data.tasks[0].answers == "6 classes"
    module = TransferModule.load_from_checkpoint(
        trained / "labels.ckpt", backbone=TextBackbone(config=CONFIG), task=data.task
    )
    answers: Any = trainer(tmp_path).predict(module, data)
    [(chances, _)] = answers[0].values()
    assert chances.shape == (2, 6)
    [tested] = trainer(tmp_path).test(module, data, verbose=False)
    assert tested["test/acc"] >= 0
    assert data.fingerprint == record["fingerprint"]


def test_what_validates_is_what_was_held_out(trained: Path) -> None:
    record = torch.load(trained / "labels.ckpt", weights_only=True)["tl"]["data"]
    data = read(seed=5, val_size=0.4)  # not those of the checkpoint
    data.adopt(record)
    data.setup("validate")
    assert data.fingerprint == record["fingerprint"]
    other = read(train_size=50)
    other.adopt(record)
    with pytest.raises(DataError, match="which of them it held out cannot be told"):
        other.setup("validate")
    with pytest.raises(DataError, match="trained on the targets topic, sentences gives sentiment"):
        read(targets="sentiment").adopt(record)


def rows(path: Path, seed: int) -> str:
    content = [f'"{text}",{topic}' for text, topic, _ in islice(sentences(seed), 60)]
    path.write_text("text,topic\n" + "\n".join(content) + "\n")
    return str(path)


def test_another_tokenizer_than_the_checkpoints_is_refused(trained: Path, tmp_path: Path) -> None:
    train_wordpiece(["other words"] * 5, 100).backend().save(str(tmp_path / "tokenizer.json"))
    record = torch.load(trained / "labels.ckpt", weights_only=True)["tl"]["data"]
    with pytest.raises(DataError, match="the same numbers mean other words"):
        read(tokenizer=str(tmp_path)).adopt(record)
    source = str(trained / "masks.ckpt")
    other = TextDataModule(rows(tmp_path / "a.csv", 3), targets="topic", vocab_size=300)
    module = TransferModule(TextBackbone(config=CONFIG), other.task, init_from=source)
    run = trainer(tmp_path)
    with pytest.raises(DataError, match=r"Set the data's `tokenizer` to .*masks\.ckpt") as said:
        run.fit(module, other)
    assert "\n" not in str(said.value)
    assert run.global_step == 0
    fits = TextDataModule(rows(tmp_path / "a.csv", 3), targets="topic", tokenizer=source)
    started = TransferModule(
        TextBackbone(config=CONFIG), fits.task, init_from=source, optimizer=adam
    )
    there = torch.load(source, weights_only=True)["state_dict"]
    assert all(
        torch.equal(value, there[f"backbone.{name}"])
        for name, value in started.backbone.state_dict().items()
    )
    trainer(tmp_path, max_epochs=1).fit(started, fits)


def test_a_model_that_cannot_read_the_texts_is_refused(tmp_path: Path) -> None:
    data = read()
    for change, said in (
        ({"vocab_size": 100}, "word pieces, the model's embedding 100"),
        ({"max_position_embeddings": 9}, "tokens, the model reads 9. Set the data's `max_length`"),
    ):
        net = TextBackbone(config={**CONFIG, **change})
        with pytest.raises(DataError, match=said):
            trainer(tmp_path).fit(TransferModule(net, data.task), data)


def test_a_run_on_other_texts_is_not_resumed(trained: Path, tmp_path: Path) -> None:
    data = read(seed=3)
    with pytest.raises(DataError, match="the run to resume was trained on generated:"):
        trainer(tmp_path).fit(build(data), data, ckpt_path=trained / "labels.ckpt")


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


def test_training_after_an_evaluation_has_its_own_split_again() -> None:
    other = read(seed=4, val_size=0.3, max_length=32)
    other.setup("fit")
    data = read(seed=3)
    data.adopt(other.describe())
    assert (data.seed, data.val_size, data.max_length) == (4, 0.3, 32)
    data.setup("fit")
    assert (data.seed, data.val_size, data.max_length) == (3, 0.1, 64)
    plain = read(seed=3)
    plain.setup("fit")
    assert data.fingerprint == plain.fingerprint
