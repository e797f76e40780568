"""Episodes of CIFAR: other classes validate, and a run resumes in mid-epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.small import Tiny, trainer
from tl import CifarDataModule, CifarFewShotDataModule, TransferModule
from tl.data.errors import DataError

CLASSES = ("airplane", "bird", "cat", "deer", "dog")
VAL = ("frog", "horse")
TEST = ("ship", "truck")


def data(**given: Any) -> CifarFewShotDataModule:
    options = {"classes": CLASSES, "val_classes": VAL, "test_classes": TEST, "ways": 2, "shots": 2}
    options |= {"queries": 1, "eval_episodes": 3, "images": "generated", "generated_size": 150}
    return CifarFewShotDataModule("cifar10", **{**options, **given})


def test_each_part_has_its_classes() -> None:
    episodes = data()
    for stage in ("fit", "test"):
        episodes.setup(stage)
    assert len(episodes.target_classes()["fine"]) == 5
    sizes = {split: len(part) for split, part in episodes.splits.items()}
    assert sizes == {"train": 75, "val": 30, "test": 6}
    names = episodes._official().names
    plain = CifarDataModule("cifar10", images="generated", generated_size=150)
    official = {split: plain.load(split).all_targets["fine"] for split in ("train", "test")}
    of = {"train": ("train", CLASSES), "val": ("train", VAL), "test": ("test", TEST)}
    for split, (origin, classes) in of.items():
        part = episodes.splits[split]
        number = torch.tensor([names.index(name) for name in classes])
        assert torch.equal(number[part.targets["fine"]], official[origin][part.index])


def test_batches_are_episodes_whatever_the_batch_size() -> None:
    episodes = data(batch_size=64)
    episodes.setup("fit")
    loader = episodes.train_dataloader()
    assert len(loader) == 75 // 6
    for images, labels in (*loader, *episodes.val_dataloader()):
        assert len(images) == 6
        assert (labels.reshape(2, 3) == labels[::3, None]).all()
    assert len(episodes.val_dataloader()) == 3


def fit(folder: Path, ckpt: Path | None = None) -> Any:
    torch.manual_seed(0)
    keep = ModelCheckpoint(
        folder, "{step}", save_top_k=-1, every_n_train_steps=1, enable_version_counter=False
    )
    run = trainer(folder, enable_checkpointing=True, callbacks=[keep], max_epochs=2)
    given = data()
    run.fit(TransferModule(Tiny(), given.task), given, ckpt_path=ckpt)
    return run


def test_a_run_validates_tests_and_resumes_in_mid_epoch_bit_for_bit(tmp_path: Path) -> None:
    run = fit(tmp_path)
    assert 0 <= run.callback_metrics["val/acc"] <= 1
    wanted = run.lightning_module.state_dict()
    found = fit(tmp_path, tmp_path / "step=17.ckpt").lightning_module.state_dict()
    assert all(torch.equal(found[k], v) for k, v in wanted.items() if torch.is_tensor(v))
    again = trainer(tmp_path)
    module = TransferModule(Tiny(), data().task)
    [scores] = again.validate(module, data(), ckpt_path=tmp_path / "step=24.ckpt")
    assert scores["val/acc"] == pytest.approx(float(run.callback_metrics["val/acc"]))
    [scores] = again.test(module, data(), ckpt_path=tmp_path / "step=24.ckpt")
    assert 0 <= scores["test/acc"] <= 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ways": 1}, "`ways` must be 2 or more, got 1"),
        ({"val_classes": ("frog", "cat")}, "`val_classes` and `classes` both name cat"),
        ({"val_classes": ("frog",)}, "`val_classes` must name 2 different classes or more"),
        ({"test_classes": ("ship", "boat")}, "`test_classes`: cifar10 has no class boat"),
        ({"labels": "none"}, "Episodes read labels"),
    ],
)
def test_mistakes_are_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        data(**given)


def test_balanced_sampling_is_refused() -> None:
    episodes = data(sampling="balanced")
    episodes.setup("fit")
    with pytest.raises(DataError, match="leave `sampling: balanced` out"):
        episodes.train_dataloader()
