"""A fitted module evaluates other data as it was trained, or refuses them."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from tl import FolderDataModule, TransferModule
from tl.backbones import ResNet20
from tl.data.errors import DataError
from tl.data.trained_on import readable, sources_of

COLOURS = {"ant": (0, 40, 90), "bee": (70, 170, 120), "cat": (230, 60, 30)}


def write_images(root: Path, shift: int = 0) -> Path:
    random = np.random.default_rng(0)
    for split, count in {"train": 6, "test": 2}.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                shade = shift if split == "train" else 0
                pixels = np.array(colour) + shade + random.normal(0, 9, (8, 8, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    return root


def quiet() -> Trainer:
    return Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def read(root: Path, **options: Any) -> FolderDataModule:
    return FolderDataModule(root=str(root), batch_size=6, **options)


def module_for(data: FolderDataModule) -> TransferModule:
    return TransferModule(
        ResNet20(), data.task, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.01)
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, TransferModule]:
    home = tmp_path_factory.mktemp("trained")
    root = write_images(home / "insects")
    data, trainer = read(root, val_size=0.5), quiet()
    module = module_for(data)
    trainer.fit(module, data)
    trainer.save_checkpoint(home / "run.ckpt")
    return root, home / "run.ckpt", module


def renamed(root: Path, to: Path) -> Path:
    shutil.copytree(root, to)
    for split in ("train", "test"):
        (to / split / "cat").rename(to / split / "Cat")
    return to


def test_a_fitted_module_refuses_a_renamed_class(
    trained: tuple[Path, Path, TransferModule], tmp_path: Path
) -> None:
    root, _, module = trained
    other = read(renamed(root, tmp_path / "insects"))
    with pytest.raises(DataError, match=r"ant, bee, cat.*Cat, ant, bee"):
        quiet().test(module, other, verbose=False)


def test_a_checkpoint_given_to_the_trainer_refuses_a_renamed_class(
    trained: tuple[Path, Path, TransferModule], tmp_path: Path
) -> None:
    root, checkpoint, _ = trained
    other = read(renamed(root, tmp_path / "insects"))
    with pytest.raises(DataError, match=r"ant, bee, cat.*Cat, ant, bee"):
        quiet().test(module_for(other), other, ckpt_path=checkpoint, verbose=False)


def test_a_checkpoint_given_to_the_trainer_brings_its_statistics(
    trained: tuple[Path, Path, TransferModule], tmp_path: Path
) -> None:
    root, checkpoint, _ = trained
    own, other = read(root), read(write_images(tmp_path / "insects", shift=20))
    results = [
        quiet().test(module_for(data), data, ckpt_path=checkpoint, verbose=False)
        for data in (own, other)
    ]
    assert own.statistics is not None
    assert other.statistics is not None
    assert torch.equal(own.statistics[0], other.statistics[0])
    assert len(results[0]) == len(results[1]) == 1


def test_a_checkpoint_given_to_the_trainer_validates_what_it_held_out(
    trained: tuple[Path, Path, TransferModule],
) -> None:
    root, checkpoint, _ = trained
    there, here = read(root, val_size=0.5), read(root, val_size=0.2, seed=9)
    there.setup("validate")
    quiet().validate(module_for(here), here, ckpt_path=checkpoint, verbose=False)
    assert here.splits["val"].digest() == there.splits["val"].digest()


def same_network(module: TransferModule) -> TransferModule:
    return TransferModule(ResNet20(), module.task)


def accuracy(module: TransferModule, data: FolderDataModule, checkpoint: Path | None) -> float:
    [found] = quiet().test(module, data, ckpt_path=checkpoint, verbose=False)
    return found["test/acc"]


def test_a_checkpoint_given_to_the_trainer_needs_no_training_images(
    trained: tuple[Path, Path, TransferModule], tmp_path: Path
) -> None:
    root, checkpoint, module = trained
    whole = accuracy(same_network(module), read(root), checkpoint)
    shutil.copytree(root / "test", tmp_path / "other" / "test")
    other = read(tmp_path / "other")
    assert accuracy(same_network(module), other, checkpoint) == whole
    assert other.class_names == {"insects": ("ant", "bee", "cat")}
    loaded = TransferModule.load_from_checkpoint(checkpoint, backbone=ResNet20())
    assert accuracy(loaded, read(tmp_path / "other"), None) == whole
    pictures = read(tmp_path / "other", predict_folder=str(root / "test" / "cat"))
    [batch] = quiet().predict(same_network(module), pictures, ckpt_path=checkpoint) or []
    probabilities, _ = next(iter(batch.values()))  # type: ignore[union-attr]
    assert probabilities.shape == (2, 3)


def test_a_checkpoint_given_to_the_trainer_knows_classes_that_are_not_here(
    trained: tuple[Path, Path, TransferModule], tmp_path: Path
) -> None:
    root, checkpoint, module = trained
    shutil.copytree(root, tmp_path / "part")
    for split in ("train", "test"):
        shutil.rmtree(tmp_path / "part" / split / "ant")
    part = read(tmp_path / "part")
    accuracy(same_network(module), part, checkpoint)
    assert part.splits["test"].targets["fine"].tolist() == [1, 1, 2, 2]
    with pytest.raises(ValueError, match="head of 3 classes, the data have 2"):
        accuracy(same_network(module), read(tmp_path / "part"), None)


def test_what_is_missing_is_said_where_no_checkpoint_tells_it(
    trained: tuple[Path, Path, TransferModule], tmp_path: Path
) -> None:
    root, _, module = trained
    shutil.copytree(root / "test", tmp_path / "other" / "test")
    with pytest.raises(DataError, match=r"other/train.* given as `ckpt_path` provides classes"):
        accuracy(same_network(module), read(tmp_path / "other"), None)
    with pytest.raises(DataError, match="other/train"):
        read(tmp_path / "other").setup("test")


def test_a_packed_tokenizer_is_for_machines() -> None:
    kept = {"name": "a", "tokenizer": {"hash": "1", "packed": "x"}, "samples": {"train": 3}}
    assert readable(kept) == {"name": "a", "tokenizer": {"hash": "1"}, "samples": {"train": 3}}


@pytest.mark.parametrize(
    ("record", "sources"),
    [
        ({"name": "a", "fingerprint": "b"}, ["a"]),
        ({"a": {"fingerprint": "b"}, "c": {"fingerprint": "d"}}, ["a", "c"]),
        ({"rows": 64, "parts": {"train": 48}}, ["data"]),  # of a user's own data module
        ({"name": "plants", "rows": 64}, ["plants"]),
        ({}, []),
        (None, []),
    ],
)
def test_descriptions_are_by_source(record: object, sources: list[str]) -> None:
    found = sources_of(record)
    assert [*found] == sources
    assert all(isinstance(part, dict) for part in found.values())
