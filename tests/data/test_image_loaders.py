"""Batches of images: shuffled, augmented, normalised, each once where they evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tests.small import module, trainer
from tl.data import Augment, GeneratedDataModule


def data(**settings: Any) -> GeneratedDataModule:
    return GeneratedDataModule(train_size=200, test_size=100, **{"batch_size": 32, **settings})


class Recorder(LightningModule):
    """Keeps the images it is trained on; trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seen: list[Tensor] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch[0].clone())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch[0].clone())

    def configure_optimizers(self) -> None:
        return None


def run(epochs: int, module: Recorder, overfit_batches: float = 0.0, **settings: Any) -> Recorder:
    trainer = Trainer(
        accelerator="cpu",
        overfit_batches=overfit_batches,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data(**settings))
    return module


def test_training_images_are_augmented_anew_each_epoch_as_a_function_of_the_seed() -> None:
    one, two = run(2, Recorder()), run(2, Recorder())
    assert all(torch.equal(a, b) for a, b in zip(one.seen, two.seen, strict=True))
    other = run(1, Recorder(), seed=1)
    assert not torch.equal(one.seen[0], other.seen[0])
    plain = run(1, Recorder(), augment=Augment(padding=0, flip=False))
    assert not torch.equal(one.seen[0], plain.seen[0])
    assert not torch.equal(one.seen[0], one.seen[len(one.seen) // 2])


def test_validation_images_are_normalised_and_never_augmented() -> None:
    module = run(2, Recorder())
    half = len(module.validated) // 2
    assert torch.equal(torch.cat(module.validated[:half]), torch.cat(module.validated[half:]))


def test_training_images_have_zero_mean_and_unit_variance() -> None:
    module = run(1, Recorder(), augment=Augment(padding=0, flip=False))
    pixels = torch.cat(module.seen)
    torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(pixels.std((0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)


def test_fewer_images_than_a_batch_give_one_smaller_batch() -> None:
    made = data(label_fraction=0.06, batch_size=128)
    made.setup("fit")
    batches = list(made.train_dataloader())
    assert [len(images) for images, _ in batches] == [10]


@pytest.mark.parametrize("workers", [0, 1])
def test_overfitting_sees_the_same_whole_batches_at_every_epoch(workers: int) -> None:
    plain = Augment(padding=0, flip=False)
    module = run(2, Recorder(), overfit_batches=3, augment=plain, num_workers=workers)
    assert [len(images) for images in module.seen] == [32] * 6
    assert all(torch.equal(a, b) for a, b in zip(module.seen[:3], module.seen[3:], strict=True))
    assert len(module.validated[0]) > 1


@pytest.mark.parametrize(
    "options", [{"limit_val_batches": 1}, {"fast_dev_run": True}, {"overfit_batches": 1}]
)
def test_a_part_of_a_split_is_of_every_class(tmp_path: Path, options: dict[str, Any]) -> None:
    trained: list[int] = []
    validated: list[int] = []

    class Look(Callback):
        def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
            validated.extend(args[3][1].tolist())

        def on_train_batch_start(self, *args: Any) -> None:
            trained.extend(args[2][1].tolist())

    source = data(batch_size=10, eval_batch_size=10, val_size=0.3)
    built = module(source)
    trainer(tmp_path, max_epochs=1, callbacks=[Look()], num_sanity_val_steps=0, **options).fit(
        built, source
    )
    assert sorted(validated) == list(range(10))
    assert built.samples["val"] == {source.data_name: 10}
    if "overfit_batches" in options:
        assert sorted(trained) == list(range(10))
