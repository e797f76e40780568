"""A source of texts whose labels training does not see, and what adapts to it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import trainer
from tests.text import CONFIG, adam
from tl import MultiTaskModule
from tl.backbones import TextBackbone
from tl.data import DataError, MultiTaskDataModule, SyntheticTextDataModule, TextDataModule
from tl.data.text.grammar import sentences
from tl.transfer.adaptation import CORAL, DANN, MCC, MKMMD

METHODS = {"coral": CORAL, "dann": DANN, "mcc": MCC, "mk_mmd": MKMMD}


def styles(folder: Path, **options: Any) -> MultiTaskDataModule:
    """Sentences with topics, and shortened ones whose topics training does not see."""
    sources = {}
    for name, first, more in (("long", 0, {}), ("short", 100, {"labels": "none"})):
        lines = ["text\ttopic\tsplit"]
        for i, (text, topic, _) in enumerate(islice(sentences(0), first, first + 60)):
            said = text if name == "long" else text.split(" was ")[1]
            lines.append(f"{said}\t{topic}\t{'test' if i < 12 else 'train'}")
        path = folder / f"{name}.tsv"
        path.write_text("\n".join(lines) + "\n")
        sources[name] = TextDataModule(
            str(path), split="split", targets="topic", vocab_size=400, **{**more, **options}
        )
    return MultiTaskDataModule(sources, shares={"short": "long"}, batch_size=8, val_size=0.2)


def model(data: MultiTaskDataModule, **options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(TextBackbone(config=CONFIG), data.tasks, optimizer=adam, **options)


def test_training_batches_hold_no_labels(tmp_path: Path) -> None:
    data = styles(tmp_path)
    data.setup("fit")
    (batch,) = islice((b for b, *_ in data.train_dataloader()), 1)
    assert batch["short"][1] == {}
    assert batch["long"][1].dtype == torch.int64
    seen = [b["short"] for b, *_ in data.val_dataloader() if b["short"]]
    assert sum(len(targets) for _, targets in seen) == 10, "validation keeps them"
    assert all(targets.dtype == torch.int64 for _, targets in seen)
    assert data.withheld_sources == ("short",)
    assert data.describe()["short"]["labels"] == "none"
    assert "labels" not in data.describe()["long"]


@pytest.mark.parametrize("name", METHODS)
def test_a_penalty_adapts_to_it_alone(name: str, tmp_path: Path) -> None:
    data = styles(tmp_path)
    plain, adapted = model(data), model(data, penalties=METHODS[name](weight=1.0))
    for module in (plain, adapted):
        trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module, data)
    [value, *_] = adapted.penalty_values().values()
    assert value.isfinite()
    assert value > 0
    both = zip(plain.backbone.parameters(), adapted.backbone.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in both)
    assert set(adapted.heads) == {"long"}, "no head of its own"


def test_labels_of_the_source_do_not_matter(tmp_path: Path) -> None:
    found = []
    for folder in ("as_they_are", "moved"):
        (tmp_path / folder).mkdir()
        data = styles(tmp_path / folder)
        if folder == "moved":
            path = tmp_path / folder / "short.tsv"
            head, *rows = path.read_text().splitlines()
            cut = [row.split("\t") for row in rows]
            train = [i for i, row in enumerate(cut) if row[2] == "train"]
            labels = [cut[i][1] for i in train]
            for i, label in zip(train, labels[1:] + labels[:1], strict=True):
                cut[i][1] = label
            path.write_text("\n".join([head, *("\t".join(row) for row in cut)]) + "\n")
        module = model(data, penalties=CORAL(weight=1.0))
        trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(module, data)
        found.append(module.state_dict())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_training_texts_may_have_no_labels(tmp_path: Path) -> None:
    data = styles(tmp_path)
    path = tmp_path / "short.tsv"
    rows = [row.split("\t") for row in path.read_text().splitlines()]
    bare = [[text, "" if split == "train" else topic, split] for text, topic, split in rows]
    path.write_text("\n".join("\t".join(row) for row in bare) + "\n")
    assert data.class_names["short"] == data.class_names["long"]
    module = model(data, penalties=CORAL(weight=1.0))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, data)
    run.test(module, data, verbose=False)
    assert module.samples["test"]["short"] == 12
    assert "test/short/oracle" not in run.callback_metrics, "only validation chooses"


def test_an_evaluation_knows_what_training_saw(tmp_path: Path) -> None:
    data = styles(tmp_path)
    data.setup("fit")
    again = styles(tmp_path)
    again.adopt(data.describe())
    again.setup("validate")
    assert again.fingerprint == data.fingerprint
    assert again.withheld_sources == ("short",)


def test_a_task_that_trains_on_it_is_refused(tmp_path: Path) -> None:
    data = SyntheticTextDataModule(60, 20, targets="topic", labels="none", vocab_size=100)
    module = MultiTaskModule(TextBackbone(config=CONFIG), data.tasks, optimizer=adam)
    with pytest.raises(DataError, match=r"trains on labels, and its source .* `labels: none`"):
        trainer(tmp_path, max_epochs=1).fit(module, data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": "topic", "labels": "some"}, "`labels` must be all or none, got 'some'"),
        ({"labels": "none"}, "nothing to learn"),
        ({"targets": "topic", "labels": "none", "masked_tokens": 0.1}, "set one of them"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SyntheticTextDataModule(60, 20, **options)
