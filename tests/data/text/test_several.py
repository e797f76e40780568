"""Several sources of text in one run: one tokenizer, one backbone."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tests.processes import run_two_processes
from tests.small import trainer
from tests.text import CONFIG, adam, read
from tl import MultiTaskModule
from tl.backbones import TextBackbone
from tl.data import DataError, GeneratedDataModule, MultiTaskDataModule, TextDataModule
from tl.data.text.grammar import sentences

SCRIPT = """
import os, sys, warnings
import torch
from pathlib import Path
from tests.data.text.test_several import trained
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
found = trained(Path(sys.argv[1]), 4, strategy="ddp", devices=2)
torch.save(found, f"{sys.argv[1]}/rank{os.environ['LOCAL_RANK']}.pt")
torch.distributed.destroy_process_group()
"""
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def two_files(folder: Path) -> dict[str, Path]:
    """Topics of long sentences, and sentiments of short ones with a word of their own."""
    long, short = folder / "long.csv", folder / "short.csv"
    if not long.exists():
        for path, target, first in ((long, "topic", 0), (short, "sentiment", 100)):
            with path.open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["text", "label", "split"])
                for number, (text, topic, mood) in enumerate(
                    islice(sentences(0), first, first + 60)
                ):
                    said = text if target == "topic" else f"Zyzzyva {text.split(' was ')[1]}"
                    label = topic if target == "topic" else mood
                    rows.writerow([said, label, "test" if number < 12 else "train"])
    return {"topics": long, "moods": short}


def several(folder: Path, **options: Any) -> MultiTaskDataModule:
    """Both files, each a source of its own."""
    sources = {
        name: TextDataModule(str(path), split="split", targets="label", vocab_size=400)
        for name, path in two_files(folder).items()
    }
    given: dict[str, Any] = {"batch_size": 8, "val_size": 0.2, **options}
    return MultiTaskDataModule(sources=sources, **given)


def build(data: MultiTaskDataModule, **config: float) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(TextBackbone(config={**CONFIG, **config}), data.tasks, optimizer=adam)


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def trained(folder: Path, batch_size: int, **settings: Any) -> dict[str, Tensor]:
    """Weights after two epochs, and what the test split gives."""
    data = several(folder, batch_size=batch_size, val_size=0.0)
    torch.manual_seed(0)
    net = TextBackbone(config={**CONFIG, **PLAIN})
    module = MultiTaskModule(net, data.tasks, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    made = trainer(folder, **settings)
    made.fit(module, data)
    [tested] = made.test(module, data, verbose=False)
    return {**weights(module), **{name: torch.tensor(value) for name, value in tested.items()}}


def test_two_files_train_together_with_one_tokenizer(tmp_path: Path) -> None:
    data = several(tmp_path)
    module = build(data)
    made = trainer(tmp_path, max_epochs=1)
    made.fit(module, data)
    first, second = data.sources.values()
    assert isinstance(first, TextDataModule)
    assert isinstance(second, TextDataModule)
    assert first.tokenizer.hash == second.tokenizer.hash
    words = first.tokenizer.backend().get_vocab()
    assert "zyzzyva" in words  # of the second file
    assert "thunder" in words or "violin" in words  # of the first
    batch = next(iter(data.train_dataloader()))[0]
    assert {name: len(targets) for name, (_, targets) in batch.items()} == {
        "topics": 8,
        "moods": 8,
    }
    lengths = {name: inputs["input_ids"].shape[1] for name, (inputs, _) in batch.items()}
    assert lengths["topics"] > lengths["moods"]  # each is cut to its own longest
    [tested] = made.test(module, data, verbose=False)
    assert {"test/topics/acc", "test/moods/acc"} <= tested.keys()
    assert module.evaluations.samples["test"] == {"topics": 12, "moods": 12}


def test_a_run_resumes_bit_for_bit_within_an_epoch(tmp_path: Path) -> None:
    def run(**settings: Any) -> MultiTaskModule:
        data = several(tmp_path)
        keep = ModelCheckpoint(tmp_path, "step{step}", save_top_k=-1, every_n_train_steps=1)
        ckpt = settings.pop("ckpt_path", None)
        made = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep], **settings)
        module = build(data)
        made.fit(module, data, ckpt_path=ckpt)
        return module

    whole = run()
    resumed = run(ckpt_path=tmp_path / "stepstep=6.ckpt")  # the second of 4 steps of an epoch
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(whole)[name]), name


def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    one = trained(tmp_path, 8)
    (tmp_path / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", str(tmp_path)], tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, value in one.items():
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4, msg=name)


def test_a_checkpoint_tells_both_sources(tmp_path: Path) -> None:
    data = several(tmp_path)
    module = build(data)
    made = trainer(tmp_path, max_epochs=1)
    made.fit(module, data)
    made.save_checkpoint(tmp_path / "a.ckpt")
    [before] = made.test(module, data, verbose=False)
    other = several(tmp_path, seed=3, val_size=0.5)
    fresh = trainer(tmp_path)
    [after] = fresh.test(build(other), other, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert after == before
    answers: Any = fresh.predict(build(other), other, ckpt_path=tmp_path / "a.ckpt")
    assert {name for loader in answers for batch in loader for name in batch} == {"topics", "moods"}


def test_options_come_from_around_unless_a_source_has_its_own(tmp_path: Path) -> None:
    files = two_files(tmp_path)
    plain = TextDataModule(str(files["topics"]), split="split", targets="label")
    own = TextDataModule(
        str(files["moods"]), split="split", targets="label", batch_size=4, tokenizer="here"
    )
    data = MultiTaskDataModule(
        sources={"a": plain, "b": own}, batch_size=16, seed=5, tokenizer="there"
    )
    assert (plain.batch_size, plain.seed, plain.tokenizer_name) == (16, 5, "there")
    assert (own.batch_size, own.seed, own.tokenizer_name) == (4, 5, "here")
    data.batch_size = 2
    assert (plain.batch_size, own.batch_size) == (2, 4)
    with pytest.raises(ValueError, match="`val_size` must be 0 or more and below 1, got 2"):
        data.val_size = 2.0
    assert plain.val_size == 0.1
    with pytest.raises(ValueError, match="`root` would have no effect: no source inherits it"):
        data.root = "elsewhere"


def test_text_beside_images_is_refused() -> None:
    images = GeneratedDataModule()
    with pytest.raises(ValueError, match=r"\Awords of `sources` are text and shapes are images"):
        MultiTaskDataModule(sources={"words": read(), "shapes": images})


def test_texts_twice_in_a_batch_are_refused_among_several() -> None:
    with pytest.raises(ValueError, match=r"\A`sources\['a'\]` has `targets` and `masked_tokens`"):
        MultiTaskDataModule(sources={"a": read(masked_tokens=0.15), "b": read()})
    data = MultiTaskDataModule(
        sources={"labels": read(), "plain": read(targets=None, masked_tokens=0.15)}
    )
    assert [(task.name, task.kind) for task in data.tasks] == [
        ("labels", "classification"),
        ("plain", "masked_tokens"),
    ]


def test_another_tokenizer_for_each_is_refused(tmp_path: Path) -> None:
    one = read(vocab_size=300)
    other = tmp_path / "tokenizer.json"
    other.write_text(read(vocab_size=200, train_size=50).tokenizer.content)
    data = MultiTaskDataModule(sources={"a": one, "b": read(tokenizer=str(other))})
    with pytest.raises(DataError, match="Sources of one run share a tokenizer: 'a' has"):
        data.setup("fit")
    with pytest.raises(ValueError, match="need one `vocab_size`, got a 300, b 400"):
        MultiTaskDataModule(sources={"a": read(vocab_size=300), "b": read(vocab_size=400)})


def test_options_that_texts_lack_are_refused() -> None:
    with pytest.raises(ValueError, match="`sampling` would have no effect: sources of text do not"):
        MultiTaskDataModule(sources={"a": read()}, sampling="balanced")
    with pytest.raises(ValueError, match="`tokenizer` would have no effect: no source is text"):
        MultiTaskDataModule(sources={"a": GeneratedDataModule()}, tokenizer="there")
