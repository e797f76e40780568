from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image

from tests.data.dense.written import maps, write_files
from tests.small import module, tiny_data, trainer
from tl import FolderDataModule
from tl.data import DataError
from tl.data.images.resident import ResidentDataset
from tl.data.shifts import Shift
from tl.data.shifts.shifted import ShiftedStream, shifted, unshifted


def data() -> ResidentDataset:
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 8, 8, 3), generator=drawn).byte()
    return ResidentDataset(images, {"fine": torch.arange(10)}).subset(torch.tensor([7, 2, 5]))


@pytest.mark.parametrize("stream", [False, True])
def test_samples_keep_their_order_targets_and_hash(*, stream: bool) -> None:
    shift, clean = Shift("gaussian_noise", 3), data()
    seen = ShiftedStream(clean, shift, "test") if stream else shifted(clean, shift, "test")
    assert len(seen) == 3
    images, targets = seen[torch.tensor([2, 0])]
    assert isinstance(targets, torch.Tensor)
    assert targets.tolist() == [5, 7]
    every = shift(clean.images, range(10), "test")
    assert torch.equal(images.permute(0, 2, 3, 1), every[[5, 7]])
    assert torch.equal(seen[1][0].permute(1, 2, 0), every[2])
    assert seen.digest() == clean.digest()
    part = seen.subset(torch.tensor([1]))
    assert torch.equal(part[torch.tensor([0])][0].permute(0, 2, 3, 1), every[[2]])
    assert torch.equal(unshifted(part)[0][0], clean[1][0])
    assert seen.only(())[0][1] == {}
    assert seen.unlabelled()[2][1] == 2


def test_the_fingerprint_and_the_record_name_the_shift() -> None:
    clean, foggy = tiny_data(), tiny_data(shift=Shift("fog", 2, seed=4))
    for each in (clean, foggy):
        each.setup("fit")
    assert foggy.fingerprint == f"{clean.fingerprint}~fog-2-seed4"
    assert foggy.describe()["shift"] == {"name": "fog", "severity": 2, "seed": 4}
    assert "shift" not in clean.describe()
    assert foggy.statistics is not None
    assert clean.statistics is not None
    assert not torch.equal(foggy.statistics[0], clean.statistics[0])


def test_a_clean_checkpoint_is_evaluated_on_shifted_images_of_its_own_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clean = tiny_data(val_size=0.2)
    clean.setup("fit")
    there = tiny_data(val_size=0.4, shift=Shift("contrast", 5))
    with caplog.at_level("INFO"):
        there.adopt(clean.describe())
    assert "another shift than in training: none there, contrast-5 here" in caplog.text
    there.setup("validate")
    there.setup("test")
    assert there.fingerprint == f"{clean.fingerprint}~contrast-5"
    assert torch.equal(there.splits["val"].index, clean.splits["val"].index)
    assert there.statistics is not None
    assert clean.statistics is not None
    assert torch.equal(there.statistics[0], clean.statistics[0])
    # and a run under a shift is not resumed under another
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(clean), clean)
    kept = clean.state_dict()
    there = tiny_data(val_size=0.2, shift=Shift("contrast", 5))
    there.trainer = run
    run.state.fn = TrainerFn.FITTING
    there.setup("fit")
    with pytest.raises(DataError, match="contrast-5"):
        there.load_state_dict(kept)


def test_a_shift_takes_effect_when_it_is_set_later() -> None:
    source = tiny_data()
    source.setup("fit")
    before = source.splits["train"][0][0].float()
    source.shift = Shift("contrast", 5)
    source.setup("fit")
    assert source.splits["train"][0][0].float().std() < 0.5 * before.std()


def test_test_images_are_shifted_without_reading_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tiny_data()
    source.setup("fit")
    source.setup("test")
    clean = copy.copy(source.splits["test"])

    def fail(split: str) -> None:
        raise AssertionError(split)

    monkeypatch.setattr(source, "load", fail)
    source.show_shifted(Shift("fog", 5))
    assert not torch.equal(source.splits["test"][0][0], clean[0][0])
    source.show_shifted(None)
    assert torch.equal(source.splits["test"][0][0], clean[0][0])


@pytest.mark.parametrize("large", [False, True])
def test_image_files_are_shifted_in_memory_and_as_they_are_read(
    tmp_path: Path, *, large: bool
) -> None:
    for split, count in (("train", 6), ("test", 3)):
        for name in ("a", "b"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                colour = (20 * number, 10, 30 if name == "a" else 200)
                Image.new("RGB", (8, 8), colour).save(folder / f"{number}.png")
    source = FolderDataModule(
        root=str(tmp_path), size=8, val_size=0.2, shift=Shift("grey", 5),
        max_memory_gb=1e-9 if large else 1.0,
    )  # fmt: skip
    source.setup("fit")
    source.setup("test")
    assert isinstance(source.splits["train"], ShiftedStream) == large
    for split in ("train", "val", "test"):
        images, _ = source.splits[split][torch.tensor([0, 1])]
        assert torch.equal(images[:, 0], images[:, 2])


@pytest.mark.parametrize("large", [False, True])
def test_maps_stay_beside_their_images(tmp_path: Path, *, large: bool) -> None:
    rooms = write_files(tmp_path / "rooms")
    clean, grey = (
        maps(rooms, shift=shift, **({"max_memory_gb": 1e-9} if large else {}))
        for shift in (None, Shift("grey", 5))
    )
    for each in (clean, grey):
        each.setup("fit")
    assert isinstance(grey.splits["train"], ShiftedStream) == large
    some = torch.tensor([1, 3])
    (_, before), (images, after) = clean.splits["train"][some], grey.splits["train"][some]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)
    assert torch.equal(images[:, 0], images[:, 2])


def test_maps_are_not_left_behind(tmp_path: Path) -> None:
    source = maps(write_files(tmp_path / "rooms"), shift=Shift("elastic", 3))
    with pytest.raises(DataError, match="'elastic' moves pixels, and the targets of task"):
        source.setup("fit")
