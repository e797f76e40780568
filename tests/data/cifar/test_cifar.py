from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from tests.data.archives import make_archive, served
from tl.data import CifarDataModule, DataError
from tl.data.cifar import classes as official


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_archive(tmp_path, CIFAR10, monkeypatch)


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    with served(archive.parent) as address:
        yield f"{address}/{archive.name}"


def loaded(root: Path, name: str = "cifar10", **settings: Any) -> CifarDataModule:
    data = CifarDataModule(name, root=str(root), val_size=0.5, **settings)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def test_an_archive_in_place_is_unpacked_and_read(archive: Path) -> None:
    data = loaded(archive.parent, download=False)
    assert data.kind() == "real"
    assert data.class_names == {"cifar10": official.CIFAR10}
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 50,
        "val": 50,
        "test": 10,
    }
    first = pickle.loads((archive.parent / "cifar-10-batches-py" / "test_batch").read_bytes())  # noqa: S301
    images, labels = data.splits["test"].__getitems__([3])
    assert labels == 3
    assert torch.equal(images[0], torch.from_numpy(first["data"][3]).view(3, 32, 32))
    assert not list(archive.parent.glob(".unpack-*"))


def test_download_from_a_server(server: str, tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    data = loaded(root, url=server)
    assert data.kind() == "real"
    assert sorted(p.name for p in root.iterdir()) == [
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
    ]


def test_a_download_with_a_wrong_checksum_is_refused_and_leaves_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    root = tmp_path / "new"
    with pytest.raises(DataError, match="checksum is wrong"):
        loaded(root, url=server)
    assert list(root.iterdir()) == []


def test_what_is_missing_is_said_in_full(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        loaded(tmp_path / "none", url="http://127.0.0.1:9/none.tar.gz")
    message = str(error.value)
    for part in (
        str(tmp_path / "none"),
        "cifar-10-python.tar.gz",
        "cifar-10-batches-py",
        "Connection refused",
        "offline: generated",
        "`root`",
    ):
        assert part in message


def test_a_truncated_archive_is_not_called_missing(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"truncated or damaged: 1,000 bytes.*`download` is off"):
        loaded(archive.parent, download=False, offline="generated")


def test_damaged_files_are_found_before_anything_is_unpickled(
    archive: Path, tmp_path: Path
) -> None:
    loaded(archive.parent, download=False)
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    archive.unlink()
    base = archive.parent / "cifar-10-batches-py"
    for name in ("data_batch_2", "test_batch", "batches.meta"):
        right = (base / name).read_bytes()
        (base / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(DataError, match=rf"not the official .* checksum: {name}"):
            loaded(archive.parent, download=False, offline="generated")
        (base / name).write_bytes(right)
    (base / "data_batch_4").unlink()
    with pytest.raises(DataError, match="missing: data_batch_4"):
        loaded(archive.parent, download=False)
    assert not marker.exists()


def test_a_half_unpacked_folder_is_unpacked_again_from_the_archive_beside_it(archive: Path) -> None:
    base = archive.parent / "cifar-10-batches-py"
    base.mkdir()
    (base / "data_batch_1").write_bytes(b"half")
    assert loaded(archive.parent, download=False).kind() == "real"
    assert (base / "data_batch_1").stat().st_size > 1000
    assert not list(archive.parent.glob(".unpack-*"))


def test_an_empty_folder_of_that_name_is_no_set(server: str, tmp_path: Path) -> None:
    (tmp_path / "new" / "cifar10").mkdir(parents=True)
    assert loaded(tmp_path / "new", url=server).kind() == "real"


def test_a_damaged_folder_is_not_replaced_by_drawn_images(tmp_path: Path) -> None:
    base = tmp_path / "cifar-10-batches-py"
    base.mkdir()
    (base / "data_batch_1").write_bytes(b"half")
    with pytest.raises(DataError, match=r"wrong checksum: data_batch_1.*Connection refused"):
        loaded(tmp_path, url="http://127.0.0.1:9/none.tar.gz", offline="generated")
    alone = CifarDataModule("cifar10", root=str(tmp_path), offline="generated")
    with pytest.raises(DataError, match="wrong checksum: data_batch_1"):
        alone.setup("fit")


def test_an_unreadable_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").mkdir()
    with pytest.raises(DataError, match=r"Cannot read .*cifar-10-python.tar.gz: Is a directory"):
        loaded(tmp_path, download=False, offline="generated")


def test_a_root_that_cannot_be_written_is_no_failed_download(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^`root` .*file/data is a file, or inside one"):
        loaded(tmp_path / "file" / "data", offline="generated")


def test_a_root_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> bool:  # root may read everything: `chmod` would show nothing
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", closed)
    data = CifarDataModule("cifar10", root=str(tmp_path), offline="generated")
    for use in (data.prepare_data, lambda: data.setup("fit")):
        with pytest.raises(DataError, match=rf"^Cannot read {tmp_path}: Permission denied\.$"):
            use()


@pytest.mark.parametrize("url", ["file:///data/cifar.tar.gz", "mirror.org/cifar.tar.gz"])
def test_a_url_that_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"`url` must start with http"):
        CifarDataModule("cifar10", url=url)


def test_cifar100_gives_fine_and_coarse_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(tmp_path, CIFAR100, monkeypatch)
    data = loaded(tmp_path, "cifar100", targets="both", download=False)
    assert list(data.num_classes.values()) == [100, 20]
    assert [t.name for t in data.tasks] == ["cifar100_fine", "cifar100_coarse"]
    labels = data.splits["test"].targets
    apple, whale = official.CIFAR100.index("apple"), official.CIFAR100.index("whale")
    coarse = dict(zip(labels["fine"].tolist(), labels["coarse"].tolist(), strict=True))
    assert official.CIFAR100_COARSE[coarse[apple]] == "fruit_and_vegetables"
    assert official.CIFAR100_COARSE[coarse[whale]] == "aquatic_mammals"
    assert labels["coarse"].bincount().tolist() == [5] * 20


def image_folders(root: Path, names: tuple[str, ...], each: int = 2) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in names:
            folder = root / "cifar10" / split / name
            folder.mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def test_image_folders_are_read_in_the_official_order_and_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folders(tmp_path, official.CIFAR10)
    first = loaded(tmp_path, download=False)
    images, labels = first.splits["test"].__getitems__([4])
    assert labels == 2
    pixels = np.array(Image.open(tmp_path / "cifar10/test/bird/0.png"))
    assert torch.equal(images[0].permute(1, 2, 0), torch.from_numpy(pixels))
    assert first.splits["test"].name(4) == "bird/0.png"

    # the cache is read, nothing decoded
    monkeypatch.setattr("tl.data.images.image_set.decode", None)
    assert loaded(tmp_path, download=False).fingerprint == first.fingerprint


def test_other_class_names_are_refused(tmp_path: Path) -> None:
    image_folders(tmp_path, (*official.CIFAR10[:-1], "lorry"))
    with pytest.raises(DataError, match="missing: truck; unknown: lorry"):
        loaded(tmp_path, download=False)


def test_drawn_images_stand_in_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = loaded(tmp_path, download=False, offline="generated", generated_size=100)
    assert data.kind() == "generated"
    assert data.fingerprint.startswith("generated:")
    assert data.describe()["kind"] == "generated"
    assert "not cifar10" in str(data.describe()["note"])
    assert not set(data.class_names["cifar10"]) & set(official.CIFAR10)
    assert data.num_classes == {"cifar10": 10}
    start = capsys.readouterr().err
    assert (
        "These are 100 synthetic images, NOT CIFAR10. Results say nothing about CIFAR10." in start
    )
    assert start.count("\n") == 1, "on one line, to be found by a search"
    data.setup("test")
    assert not capsys.readouterr().err, "once"


def test_real_images_are_preferred_unless_drawn_ones_are_asked_for(archive: Path) -> None:
    assert loaded(archive.parent, offline="generated").kind() == "real"
    drawn = loaded(archive.parent, images="generated", generated_size=100)
    assert drawn.kind() == "generated"


def test_coarse_labels_of_cifar10_are_refused() -> None:
    with pytest.raises(ValueError, match="no coarse labels"):
        CifarDataModule("cifar10", targets="coarse")


def test_the_real_images(real_images: Path) -> None:
    data = CifarDataModule("cifar100", root=str(real_images), targets="both")
    data.prepare_data()
    data.setup("fit")
    assert data.kind() == "real"
    assert data.class_names["cifar100_fine"] == official.CIFAR100
    mean, std = data.statistics or (torch.zeros(3), torch.zeros(3))
    # the published statistics of CIFAR-100's pixels
    torch.testing.assert_close(mean, torch.tensor([129.3, 124.1, 112.4]), atol=4, rtol=0)
    torch.testing.assert_close(std, torch.tensor([68.2, 65.4, 70.4]), atol=4, rtol=0)


def test_drawn_images_stand_in_below_a_root_that_looks_like_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded(tmp_path / "[/b]", download=False, offline="generated", generated_size=100)
    said = capsys.readouterr().err
    # the frame breaks long paths, wherever the test's folder happens to end
    assert "[/b]" in "".join(said.replace("│", "").split())


@pytest.mark.parametrize("size", [-5, 0, 99])
def test_fewer_drawn_images_than_classes_are_refused(size: int) -> None:
    message = f"`generated_size` must be at least .* cifar100, 100, got {size}"
    with pytest.raises(ValueError, match=message):
        CifarDataModule("cifar100", generated_size=size)
    with pytest.raises(ValueError, match=message):
        CifarDataModule("cifar100").inherit(generated_size=size)


def test_fine_and_coarse_labels_split_the_images_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(tmp_path, CIFAR100, monkeypatch)
    fine, coarse, both = (
        loaded(tmp_path, "cifar100", targets=targets) for targets in ("fine", "coarse", "both")
    )
    for split in ("train", "val"):
        # an image that trains under one kind of label must not validate under the other
        assert torch.equal(fine.splits[split].index, coarse.splits[split].index)
        assert torch.equal(fine.splits[split].index, both.splits[split].index)
    assert list(coarse.splits["train"].targets) == ["coarse"]
    assert list(both.splits["test"].targets) == ["fine", "coarse"]


def test_a_model_of_real_images_is_not_evaluated_on_drawn_ones(
    archive: Path, tmp_path: Path
) -> None:
    state = loaded(archive.parent).state_dict()
    drawn = loaded(tmp_path / "none", download=False, offline="generated", generated_size=100)
    with pytest.raises(DataError, match="trained on real images, and these are synthetic"):
        drawn.load_state_dict(state)
    drawn.load_state_dict(drawn.state_dict())


def test_the_first_process_decodes_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_folders(tmp_path, official.CIFAR10)
    first, second = (CifarDataModule("cifar10", root=str(tmp_path), val_size=0.5) for _ in range(2))
    first.prepare_data()
    assert not (tmp_path / "cache").exists()  # alone, setup comes next and decodes
    first.trainer = Trainer(logger=False, enable_checkpointing=False)
    monkeypatch.setattr(Trainer, "world_size", 2)
    first.prepare_data()
    monkeypatch.setattr("tl.data.images.image_set.decode", None)
    second.setup("fit")
    assert len(second.splits["train"]) == 10


def test_an_archive_is_unpickled_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(archive.parent, download=False)
    before = first.fingerprint

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("unpickled again")

    monkeypatch.setattr(official_set(first), "__init__", fail)
    again = loaded(archive.parent, download=False)
    assert again.fingerprint == before
    assert torch.equal(again.splits["test"].targets["fine"], first.splits["test"].targets["fine"])


def official_set(data: CifarDataModule) -> type:
    found: type = data._set
    return found
