"""Sources of text are evaluated as a checkpoint was trained, or refuse."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.data.text.test_source import CASES
from tests.small import trainer
from tests.text import CONFIG, adam, build, read
from tl import TransferModule
from tl.backbones import TextBackbone
from tl.data import TextDataModule
from tl.data.errors import DataError
from tl.data.text import source as home
from tl.data.text.grammar import sentences
from tl.data.text.tokenizer import train_wordpiece
from tl.data.trained_on import readable


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
    with pytest.raises(DataError, match="which of them it held out cannot be determined"):
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


def test_a_run_on_other_texts_is_not_resumed(trained: Path, tmp_path: Path) -> None:
    data = read(seed=3)
    with pytest.raises(DataError, match="the run to resume was trained on generated:"):
        trainer(tmp_path).fit(build(data), data, ckpt_path=trained / "labels.ckpt")


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


def test_a_checkpoint_without_a_record_ends_what_another_decided(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = read(max_length=60)
    record = torch.load(trained / "labels.ckpt", weights_only=True)["tl"]["data"]
    assert data.adopt({**record, "max_length": 40})
    assert data.max_length == 40
    with caplog.at_level("INFO"):
        assert data.adopt({"name": record["name"]})
    assert data.max_length == 60
    assert data.trained_on is None
    assert "does not hold the classes and the tokenizer" in caplog.text
    assert not data.adopt({"name": record["name"]})
