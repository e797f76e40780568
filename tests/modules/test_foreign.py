from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tests.small import Tiny, trainer
from tl import Classification, MultiTaskModule, Regression, TransferModule
from tl.data import TensorDataModule


class Foreign(LightningDataModule):
    """Loaders as people write them."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__()
        self.given, self.named = given, named

    def predict_dataloader(self) -> DataLoader[Any]:
        images = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(images, torch.arange(10)), *self.given, **self.named)


@pytest.mark.parametrize(
    "data", [Foreign(4), Foreign(batch_size=4), Foreign(4, False), Foreign(4, drop_last=True)]
)
def test_a_batch_size_by_position_does_not_keep_from_predicting(
    data: Foreign, tmp_path: Path
) -> None:
    module = TransferModule(Tiny(), Classification("a", 3))
    found = trainer(tmp_path).predict(module, data)
    assert found is not None
    parts: Any = found
    assert [len(part["a"][0]) for part in parts] == [4, 4, 2]
    assert torch.cat([part["a"][1] for part in parts]).tolist() == list(range(10))


class Halves(TransferModule):
    """Gives a batch its form before the transfer."""

    calls = 0

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.calls += 1
        return batch["images"], batch["labels"]


class Own(LightningDataModule):
    """A data module with a hook of its own."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(torch.randn(8, 3, 8, 8), torch.arange(8) % 3), 4)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch


def test_a_subclass_may_convert_batches_before_their_transfer(tmp_path: Path) -> None:
    rows = [{"images": torch.randn(3, 8, 8), "labels": i % 4} for i in range(8)]
    loader: DataLoader[Any] = DataLoader(rows, batch_size=4)  # type: ignore[arg-type]
    module = Halves(Tiny(), Classification("a", 4))
    trainer(tmp_path, max_epochs=1).fit(module, loader)
    assert module.calls == 2
    assert module.target_check.done
    with pytest.raises(ValueError, match="'a' has a head of 3 classes"):  # and it is checked
        trainer(tmp_path, max_epochs=1).fit(Halves(Tiny(), Classification("a", 3)), loader)


@pytest.mark.parametrize("kind", [TransferModule, Halves])
def test_two_hooks_for_one_batch_are_told_where_there_are_two(
    kind: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trainer(tmp_path, max_epochs=1).fit(kind(Tiny(), Classification("a", 3)), Own())
    told = [
        w for w in recwarn if "You have overridden `on_before_batch_transfer`" in str(w.message)
    ]
    assert bool(told) is (kind is Halves)


@pytest.mark.parametrize("gap", [0, 6])
def test_floats_are_classes_where_the_first_batch_has_a_gap(gap: int, tmp_path: Path) -> None:
    labels = torch.arange(8).float() % 3
    labels[gap] = torch.nan
    loader = DataLoader(TensorDataset(torch.randn(8, 3, 8, 8), labels), batch_size=4)
    run, module = trainer(tmp_path, max_epochs=1), TransferModule(Tiny(), Classification("a", 3))
    if gap == 0:
        run.fit(module, loader)
        assert run.global_step == 2
        return
    with pytest.raises(ValueError, match=r"its targets are torch\.float32 numbers"):
        run.fit(module, loader)
    assert run.global_step == 0


def test_arrays_are_checked_as_a_whole_and_not_by_batch(tmp_path: Path) -> None:
    task, labels = Classification("a", 3), torch.arange(16).float() % 3
    labels[9] = torch.nan
    data = TensorDataModule(torch.randn(16, 3, 8, 8), labels, [task], batch_size=2)
    trainer(tmp_path, max_epochs=1).fit(TransferModule(Tiny(), task), data)
    other = TensorDataModule(torch.randn(16, 3, 8, 8), labels.nan_to_num(), [Regression("a")])
    with pytest.raises(ValueError, match="has a head of 3 classes, the data have 1 number"):
        trainer(tmp_path, max_epochs=1).fit(TransferModule(Tiny(), task), other)


@pytest.mark.parametrize("ours", [True, False])
def test_a_class_and_a_number_are_learned_from_the_same_labels(ours: bool, tmp_path: Path) -> None:
    images, labels = torch.randn(16, 3, 8, 8), torch.arange(16) % 3
    tasks = [Classification("a", 3, target="t"), Regression("b", target="t")]
    data: Any = TensorDataModule(images, {"t": labels}, tasks, batch_size=4)
    if not ours:
        rows = [(image, {"t": label}) for image, label in zip(images, labels, strict=True)]
        data = DataLoader(rows, batch_size=4)  # type: ignore[arg-type]
    run = trainer(tmp_path, max_epochs=1)
    run.fit(MultiTaskModule(Tiny(), tasks), data)
    assert {"train/a/acc", "train/b/mae"} <= set(run.callback_metrics)
