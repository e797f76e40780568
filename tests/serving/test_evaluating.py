"""A model's scores on labelled data are those of `test`, with classes matched by name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

import tl
from tests.images import trained
from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tl.data import TensorDataModule
from tl.modules import MultiTaskModule, TransferModule
from tl.tasks import Classification, Regression


def test_scores_are_those_of_test(tmp_path: Path) -> None:
    data = tiny_data()
    network = module(data)
    model = tl.load(trained(tmp_path, network, data, 1), backbone=Tiny())
    [expected] = trainer(tmp_path).test(network, data, verbose=False)
    found = model.evaluate(tiny_data())
    [name] = found
    assert found.metrics == pytest.approx(expected)
    assert found.samples == 30
    assert found.accuracy == pytest.approx(found.scores["acc"])
    assert found.scores["acc"] == pytest.approx(expected["test/acc"])
    assert found.loss == pytest.approx(expected["test/loss"])
    assert found[name].f1 == found.confusion.f1
    assert found.per_class["class"] == model.class_names
    assert sum(found.per_class["samples"]) == 30
    assert len(found.most_confused(3)) <= 3
    assert repr(found).splitlines()[0].split() == ["task", "samples", "loss", "acc", "f1"]
    assert "<td>30</td>" in found._repr_html_()
    # nothing of the run stays behind
    assert model.module.run is None
    assert not model.module.training


def test_several_sources_at_once(tmp_path: Path) -> None:
    data = two_sources()
    model = tl.load(trained(tmp_path, multitask_module(data), data, 1), backbone=Tiny())
    found = model.evaluate(two_sources())
    assert sorted(found) == sorted(model.tasks)
    assert {found[name].samples for name in found} == {20, 100}
    with pytest.raises(AttributeError, match=r"choose one, as evaluation\['ten'\]\.f1"):
        _ = found.f1
    with pytest.raises(ValueError, match="reads the sources ten, hundred; choose the one"):
        model.evaluate(tiny_data())
    alone = model.evaluate(tl.GeneratedDataModule(train_size=100, test_size=20), source="ten")
    assert alone.accuracy == found["ten"].accuracy


def test_numbers_have_no_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = torch.randint(0, 255, (32, 3, 8, 8), dtype=torch.uint8)
    targets = {
        "height": torch.rand(32),
        "tags": torch.randint(0, 2, (32, 3)).float(),
    }
    tasks = [
        Regression("height", target="height"),
        Classification("tags", 3, target="tags", multi_label=True),
    ]
    test = {name: values[:20] for name, values in targets.items()}
    data = TensorDataModule(
        inputs, targets, tasks, test_inputs=inputs[:20], test_targets=test, batch_size=8
    )
    model = tl.load(
        trained(tmp_path, MultiTaskModule(Tiny(), data.tasks), data, 1), backbone=Tiny()
    )
    found = model.evaluate(data)
    assert "mae" in found["height"].scores
    with pytest.raises(AttributeError, match=r"height answers .* no confusion matrix; it has"):
        _ = found["height"].confusion
    labels = found["tags"].per_class
    assert labels["label"] == ["0", "1", "2"]
    assert labels["samples"] == targets["tags"][:20].sum(0).tolist()
    assert found["tags"].f1 == found.metrics["test/tags/f1"]


class Foreign(LightningDataModule):
    """A data module of somebody else's."""

    def __init__(self, loaders: int = 1, names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.loaders = loaders
        if names:
            self.class_names = {"ten": names}

    def test_dataloader(self) -> Any:
        data = TensorDataset(torch.randn(12, 3, 8, 8), torch.arange(12) % 10)
        found = [DataLoader(data, batch_size=5) for _ in range(self.loaders)]
        return found if self.loaders > 1 else found[0]

    train_dataloader = test_dataloader


def test_data_of_somebody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = TransferModule(Tiny(), Classification("ten", 10))
    model = tl.load(trained(tmp_path, network, Foreign(), 1), backbone=Tiny())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert model.evaluate(Foreign()).samples == 12
    assert "GPU available" not in caplog.text
    with pytest.raises(ValueError, match="has several test loaders; evaluate takes one"):
        model.evaluate(Foreign(2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "A int cannot be evaluated; expected a folder or a data module"),
        ("nowhere", "nowhere: no such folder or table"),
        (".", "was not trained on images with class names, so a path cannot be evaluated"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(tmp_path: Path, given: Any, said: str) -> None:
    network = TransferModule(Tiny(), Classification("ten", 10))
    model = tl.load(trained(tmp_path, network, Foreign(), 1), backbone=Tiny())
    with pytest.raises(ValueError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
        model.evaluate(given)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        model.evaluate(Foreign(), batch_size=0)


def test_other_class_names_are_refused(tmp_path: Path) -> None:
    network = TransferModule(Tiny(), Classification("ten", 10))
    digits = tuple("0123456789")
    model = tl.load(trained(tmp_path, network, Foreign(1, digits), 1), backbone=Tiny())
    assert model.evaluate(Foreign(1, digits)).per_class["class"] == list(digits)
    with pytest.raises(ValueError, match="the same in another order"):
        model.evaluate(Foreign(1, digits[::-1]))
