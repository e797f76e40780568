from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tl.data import DataError, FolderDataModule
from tl.data.cache import Pixels
from tl.data.images import image_set
from tl.data.images.decoding import decode
from tl.data.images.image_set import Reading, StreamedDataset, load_images
from tl.data.images.resident import ResidentDataset

CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several sizes and formats: class k is mostly of grey level 60 k + 40."""
    root = tmp_path / "photos"
    shapes = [(40, 60), (64, 32), (20, 20), (33, 90)]
    formats = ["png", "jpg", "bmp", "webp"]
    for split in ("train", "test"):
        for k, name in enumerate(CLASSES):
            (root / split / name / "deeper").mkdir(parents=True)
            for i, (shape, form) in enumerate(zip(shapes, formats, strict=True)):
                where = root / split / name / ("deeper" if i == 3 else "")
                Image.fromarray(np.full((*shape, 3), 60 * k + 40, np.uint8)).save(
                    where / f"{i}.{form}"
                )
    return root


def loaded(root: Path, **settings: Any) -> FolderDataModule:
    data = FolderDataModule(root=str(root), val_size=0.25, **settings)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def test_images_of_any_size_are_read_resized(folder: Path) -> None:
    data = loaded(folder, size=16)
    assert data.class_names == {"photos": CLASSES}
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 9, "val": 3, "test": 12}
    pixels, labels = data.splits["test"].__getitems__(list(range(12)))
    assert isinstance(labels, torch.Tensor)
    assert pixels.shape == (12, 3, 16, 16)
    levels = pixels.float().mean((1, 2, 3))
    assert ((levels - (60 * labels + 40)).abs() < 3).all()


def test_grey_palette_alpha_and_rotated_files_become_upright_rgb(tmp_path: Path) -> None:
    wide = np.zeros((10, 20, 3), np.uint8)
    wide[:, :10] = 255  # left half white
    paths = [tmp_path / name for name in ("l.png", "p.png", "a.png", "turned.jpg")]
    Image.fromarray(wide).convert("L").save(paths[0])
    Image.fromarray(wide).convert("P").save(paths[1])
    Image.fromarray(wide).convert("RGBA").save(paths[2])
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 270 degrees
    Image.fromarray(np.rot90(wide)).save(paths[3], exif=exif, quality=95)
    for image in load_images(paths, Reading(8), "images"):
        assert image.shape == (8, 8, 3)
        assert image[:, :3].float().mean() > 240
        assert image[:, 5:].float().mean() < 15


def test_streamed_batches_equal_those_in_memory(folder: Path) -> None:
    resident, streamed = loaded(folder), loaded(folder, max_memory_gb=0.0, num_workers=2)
    assert isinstance(resident.splits["train"], ResidentDataset)
    assert isinstance(streamed.splits["train"], StreamedDataset)
    one, two = (next(iter(d.train_dataloader())) for d in (resident, streamed))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    torch.testing.assert_close(resident.statistics, streamed.statistics)


def test_groups_give_coarse_labels(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("class,group\nant,insect\nbee,insect\ncat,mammal\n")
    data = loaded(folder, groups=str(table), targets="both")
    assert list(data.num_classes.values()) == [3, 2]
    assert data.class_names["photos_coarse"] == ("insect", "mammal")
    labels = data.splits["test"].targets
    assert torch.equal(labels["coarse"], (labels["fine"] == 2).long())


@pytest.mark.parametrize(
    ("name", "task"),
    [("my photos", "my_photos"), ("école", "ecole"), ("_old", "old"), ("画像", "images")],
)
def test_any_folder_gives_a_task_its_name(folder: Path, name: str, task: str) -> None:
    renamed = folder.rename(folder.parent / name)
    assert loaded(renamed).num_classes == {task: 3}


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_all_unreadable_files_are_named_in_one_error(folder: Path, memory: float) -> None:
    whole = (folder / "train/ant/1.jpg").read_bytes()
    for i in range(22):
        (folder / f"train/ant/bad{i:02}.jpg").write_bytes(whole[: 100 + i])
    (folder / "train/bee/text.png").write_text("no image")
    with pytest.raises(DataError) as error:
        loaded(folder, max_memory_gb=memory)
    message = str(error.value)
    assert message.startswith("23 of 35 image files cannot be read")
    assert "bad00.jpg" in message
    assert "bad19.jpg" in message
    assert "bad20.jpg" not in message
    assert "and 3 more" in message


def test_the_cache_is_keyed_by_content(folder: Path) -> None:
    before = loaded(folder).fingerprint
    assert loaded(folder).fingerprint == before
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(folder / "train/bee/2.bmp")
    assert loaded(folder).fingerprint != before


def test_a_damaged_cache_is_decoded_again(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = loaded(folder).fingerprint
    for file in (tmp_path / "cache").glob("*.npy"):
        file.write_bytes(file.read_bytes()[:200])
    assert loaded(folder).fingerprint == before
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_written_is_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "file"))
    loaded(folder)
    assert "not cached" in caplog.text
    assert "damaged" not in caplog.text


def test_missing_and_empty_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"No such folder: {tmp_path}/none/train"):
        _ = FolderDataModule(root=str(tmp_path / "none")).tasks
    (tmp_path / "empty/train").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no class folders"):
        _ = FolderDataModule(root=str(tmp_path / "empty")).tasks
    (folder / "train/dog").mkdir()
    with pytest.raises(DataError, match=r"1 of 4 classes have no images .*: dog") as error:
        loaded(folder)
    assert len(str(error.value)) < 200 + len(str(folder))  # not all extensions


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_only_training_has_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture, split: str
) -> None:
    shutil.copytree(folder / "test", folder / "val")
    shutil.rmtree(folder / split / "bee")
    with caplog.at_level(logging.INFO):
        data = loaded(folder)
    said = f"1 of 3 classes have no {split} images in {folder / split}: bee; scores are of the"
    assert caplog.text.count(said) == 1
    assert {*data.splits[split].targets["fine"].tolist()} == {0, 2}
    shutil.rmtree(folder / "train" / "ant")
    with pytest.raises(DataError, match="training split lacks: ant"):
        loaded(folder)


def test_a_class_that_only_the_test_split_has_is_refused(folder: Path) -> None:
    (folder / "test/dog").mkdir()
    with pytest.raises(DataError, match="training split lacks: dog"):
        loaded(folder)


def test_a_named_folder_lies_below_root(folder: Path) -> None:
    data = FolderDataModule(root=str(folder.parent), folder="photos")
    assert data.class_names == {"photos": CLASSES}


def test_predict_reads_a_folder_without_labels(folder: Path) -> None:
    data = FolderDataModule(root=str(folder), predict_folder=str(folder / "test" / "bee"))
    data.setup("predict")
    pixels, positions = next(iter(data.predict_dataloader()))
    assert isinstance(positions, torch.Tensor)
    assert positions.tolist() == [0, 1, 2, 3]
    assert data.splits["predict"].name(0).endswith("bee/0.png")
    assert (pixels.float().mean((1, 2, 3)) - 100).abs().max() < 3
    empty = FolderDataModule(root=str(folder), predict_folder=str(folder / "none"))
    with pytest.raises(DataError, match="holds no images"):
        empty.setup("predict")


@pytest.mark.parametrize("memory", [4.0, 0.0])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_broken_image_of_any_split_is_found_before_training(
    folder: Path, split: str, memory: float
) -> None:
    if split == "val":
        shutil.copytree(folder / "test", folder / "val")
    (folder / split / "bee" / "broken.png").write_bytes(b"broken")
    data = FolderDataModule(root=str(folder), max_memory_gb=memory)
    with pytest.raises(DataError, match=r"1 of 13 .*broken.png \(not an image.*on_bad_image: skip"):
        data.setup("fit")


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_bad_images_are_skipped_named_and_counted(
    folder: Path, memory: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole = loaded(folder, max_memory_gb=memory)
    for split, count in (("train", 22), ("test", 2)):
        for i in range(count):
            (folder / split / "bee" / f"bad{i:02}.heic").write_bytes(b"broken")
    for _ in range(2):  # the second time out of the cache
        caplog.clear()
        caplog.set_level(logging.INFO)
        data = loaded(folder, max_memory_gb=memory, on_bad_image="skip")
        assert data.describe()["images"] == {"train": 9, "val": 3, "test": 12}
        assert data.describe()["skipped_images"] == {"train": 22, "test": 2}
        assert "skipped 22 of 34 train images as unreadable" in caplog.text
        assert "bad19.heic (not an image that Pillow reads by itself) and 2 more" in caplog.text
        # what was really loaded is the same, in memory by its pixels
        assert data.fingerprint == whole.fingerprint
        torch.testing.assert_close(data.statistics, whole.statistics)
    with pytest.raises(DataError, match="22 of 34 image files cannot be read"):
        loaded(folder, max_memory_gb=memory)


def test_skipped_images_are_not_decoded_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "bee" / "bad.png").write_bytes(b"broken")
    loaded(folder, on_bad_image="skip")
    decoded: list[Path] = []

    def counted(path: Path, size: int, _: object) -> Pixels:
        decoded.append(path)
        return decode(path, size)

    monkeypatch.setattr(image_set, "decode", counted)
    loaded(folder, on_bad_image="skip")
    assert decoded == [folder / "train" / "bee" / "bad.png"]


def test_a_class_without_a_readable_image_is_named(folder: Path) -> None:
    for path in (folder / "test" / "bee").rglob("*.*"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"1 of 3 classes have no readable image in .*: bee"):
        loaded(folder, on_bad_image="skip")


def test_predict_answers_the_images_that_can_be_read_and_names_the_others(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = folder / "test" / "bee"
    (pictures / "bad.png").write_bytes(b"broken")
    (pictures / "notes.txt").write_text("no image")
    data = FolderDataModule(root=str(folder), predict_folder=str(pictures))
    with caplog.at_level(logging.INFO):
        data.setup("predict")
    assert len(data.splits["predict"]) == 4
    assert "not predicted, 1 of 5 images cannot be read: " in caplog.text
    assert "bad.png" in caplog.text
    assert "notes.txt" in caplog.text
    for path in pictures.rglob("*.*"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"of \d images cannot be read: "):
        FolderDataModule(root=str(folder), predict_folder=str(pictures)).setup("predict")


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_the_range_of_pixels_reaches_every_reader(folder: Path, memory: float) -> None:
    Image.fromarray(np.full((8, 8), 819, np.uint16)).save(folder / "train/ant/deep.png")
    with pytest.raises(DataError, match=r"deep.png \(16-bit values 819 to 819; .*\[0, 4095\]"):
        loaded(folder, max_memory_gb=memory)
    fingerprints = set()
    for high in (4095, 8190):
        data = loaded(folder, max_memory_gb=memory, pixel_range=(0, high), label_fraction=1.0)
        whole = data.splits["train"]
        row = next(i for i, n in enumerate(whole.all_names or ()) if n == "ant/deep.png")
        assert (whole.pixels(torch.tensor([row])) == 819 * 255 // high + (high == 8190)).all()
        fingerprints.add(data.fingerprint)
        assert data.describe()["pixel_range"] == [0, high]
    assert len(fingerprints) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pixel_range": (5, 5)}, "pixel_range"),
        ({"on_bad_image": "ignore"}, "on_bad_image"),
        ({"test_size": 1.0}, "test_size"),
    ],
)
def test_options_out_of_range_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"`{said}` must be"):
        FolderDataModule(**settings)


def test_files_outside_the_class_folders_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("RGB", (8, 8)).save(folder / "train" / "loose.png")
    with caplog.at_level(logging.INFO):
        loaded(folder)
    assert "left out 1 file (outside the class folders): " in caplog.text
    with caplog.at_level(logging.INFO):
        loaded(folder / "train", test_size=0.25)
    assert caplog.text.count(f"{folder / 'train'}: left out") == 2  # once by each data module
    (folder / "train" / "dog").symlink_to(folder / "gone")
    with pytest.raises(DataError, match="links to nothing: dog"):
        loaded(folder)
