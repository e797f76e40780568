from __future__ import annotations

import hashlib
import http.server
import pickle
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from tl.data import CifarDataModule, DataError
from tl.data import cifar_classes as official


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def make_archive(folder: Path, kind: type[CIFAR10], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the official format; torchvision is told its checksums."""
    fine = kind is CIFAR100
    base = folder / "made" / kind.base_folder
    base.mkdir(parents=True)
    classes = official.CIFAR100 if fine else official.CIFAR10
    rng = np.random.default_rng(0)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for attribute, each in (("train_list", 2), ("test_list", 1)):
        for name, _ in getattr(kind, attribute):
            labels = np.repeat(np.arange(len(classes)), each).tolist()
            entry: dict[str, Any] = {
                "data": rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
                "fine_labels" if fine else "labels": labels,
            }
            (base / name).write_bytes(pickle.dumps(entry))
            lists[attribute].append([name, md5(base / name)])
    meta = base / kind.meta["filename"]
    meta.write_bytes(pickle.dumps({kind.meta["key"]: list(classes)}))
    archive = folder / str(kind.filename)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, kind.base_folder)
    for attribute, value in lists.items():
        monkeypatch.setattr(kind, attribute, value)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    return archive


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_archive(tmp_path, CIFAR10, monkeypatch)


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    """Serve the archive on loopback."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(archive.parent), **kwargs)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/{archive.name}"
        served.shutdown()
        thread.join()


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

    base = archive.parent / "cifar-10-batches-py"
    (base / "data_batch_2").write_bytes(pickle.dumps(Evil()))
    (base / "data_batch_4").unlink()
    with pytest.raises(DataError, match=r"missing: data_batch_4; wrong checksum: data_batch_2"):
        loaded(archive.parent, download=False)
    assert not marker.exists()


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
    with pytest.raises(DataError, match=r"^Cannot write to .*file/data: Not a directory"):
        loaded(tmp_path / "file" / "data", offline="generated")


@pytest.mark.parametrize("url", ["file:///data/cifar.tar.gz", "mirror.org/cifar.tar.gz"])
def test_a_url_that_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"`url` must start with http"):
        CifarDataModule("cifar10", url=url)


def test_cifar100_gives_fine_and_coarse_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(tmp_path, CIFAR100, monkeypatch)
    data = loaded(tmp_path, "cifar100", targets="both", download=False)
    assert [t.num_classes for t in data.tasks] == [100, 20]
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

    monkeypatch.setattr("tl.data.images.decode", None)  # the cache is read, nothing decoded
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
    assert "NOT CIFAR10" in start
    assert "100 drawn images" in start
    data.teardown("fit")
    assert "NOT CIFAR10" in capsys.readouterr().err


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
