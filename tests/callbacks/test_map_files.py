from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.small import trainer
from tl import MultiTaskModule
from tl.backbones.resnet_cifar import ResNetCifar
from tl.callbacks import PredictionWriter
from tl.callbacks.map_files import MapFiles, encoded, file_names
from tl.data import SyntheticScenesDataModule
from tl.tasks import Depth, Segmentation
from tl.tasks.palette import palette
from tl.tasks.pixels import MapFile


def rooms() -> SyntheticScenesDataModule:
    return SyntheticScenesDataModule(train_size=8, test_size=5, size=16, batch_size=2)


def predict(folder: Path, **options: Any) -> tuple[MultiTaskModule, SyntheticScenesDataModule]:
    torch.manual_seed(0)
    data = rooms()
    data.setup("fit")  # a checkpoint would bring the statistics of the images
    module = MultiTaskModule(ResNetCifar(8), data.tasks)
    run = trainer(folder, callbacks=[PredictionWriter(**options)])
    run.predict(module, data, return_predictions=False)
    return module, data


def test_maps_lie_beside_a_csv_that_names_them(tmp_path: Path) -> None:
    module, data = predict(tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = {(row["image"], row["task"]): row for row in csv.DictReader(file)}
    assert len(rows) == 5 * 4
    assert rows["3", "segmentation"]["map"] == "predictions/segmentation/3.png"
    assert rows["3", "normals"]["map"] == "predictions/normals/3.npy"
    assert rows["3", "objects"]["map"] == ""  # an answer for the image
    assert rows["3", "objects"]["class"] or rows["3", "objects"].keys() >= {"class_name"}
    module.eval()
    images = data.on_after_batch_transfer((data.splits["test"].inputs, None), 0)[0]
    net: Any = module.backbone
    with torch.no_grad():
        maps = net.maps(images)
        outputs = {t: module.heads[t](maps, (16, 16)) for t in ("segmentation", "depth", "normals")}
    answers = {name: module.tasks[name].answer(output) for name, output in outputs.items()}
    with Image.open(tmp_path / rows["3", "segmentation"]["map"]) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), answers["segmentation"][3].numpy())
    depth = np.load(tmp_path / rows["3", "depth"]["map"], allow_pickle=False)
    np.testing.assert_allclose(depth, answers["depth"][3, 0].numpy(), rtol=1e-4)
    normals = np.load(tmp_path / rows["3", "normals"]["map"], allow_pickle=False)
    assert normals.shape == (16, 16, 3)
    assert normals.dtype == np.float32
    np.testing.assert_allclose(normals, answers["normals"][3].movedim(0, -1).numpy(), atol=1e-4)


def test_a_folder_that_cannot_be_written_ends_it_first(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file in the way")
    with pytest.raises(ValueError, match=r"\AThe maps of predictions cannot be written to .*out: "):
        predict(tmp_path, filename=str(tmp_path / "out.csv"))
    assert not list(tmp_path.glob("out.csv*"))


def test_a_full_disk_leaves_no_half_of_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = MapFiles(tmp_path / "maps")
    answer = torch.zeros(2, 1, 4, 4)
    files.add("depth", ["a", "b"], MapFile(answer))
    before = (tmp_path / "maps" / "depth" / "a.npy").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*maps/depth/a.npy'"):
        files.add("depth", ["a"], MapFile(answer + 1))
    assert (tmp_path / "maps" / "depth" / "a.npy").read_bytes() == before
    names = sorted(path.name for path in (tmp_path / "maps").rglob("*") if path.is_file())
    assert names == ["a.npy", "b.npy"]


def test_classes_are_indices_with_a_palette() -> None:
    found = Segmentation("a", 6).map_file(torch.tensor([[[0, 5], [3, 1]]]))
    with Image.open(io.BytesIO(encoded(found.maps[0], found.palette))) as image:
        assert np.asarray(image).tolist() == [[0, 5], [3, 1]]
        assert image.convert("RGB").getpixel((1, 0)) == tuple(palette(6)[5].tolist())
    many = Segmentation("a", 300).map_file(torch.tensor([[[0, 299]]]))
    array = np.load(io.BytesIO(encoded(many.maps[0], many.palette)), allow_pickle=False)
    assert array.tolist() == [[0, 299]]
    assert Depth("a").map_file(torch.zeros(1, 1, 2, 2)).palette is None


def test_names_are_those_of_the_images_and_stay_inside() -> None:
    images = ["image/1.jpg", "image/2.jpg", "image/2.png", "../x.png", "/etc/y.png", "a/../x.png"]
    assert file_names(images) == {
        "image/1.jpg": "image/1",
        "image/2.jpg": "image/2.jpg",
        "image/2.png": "image/2.png",
        "../x.png": "x",
        "/etc/y.png": "etc/y",
        "a/../x.png": "a/x",
    }
    same = file_names(["x", "../x", "/x"])
    assert len(set(same.values())) == 3
