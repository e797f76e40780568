from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from PIL import Image
from torch import Tensor

from tests.data.dense.written import TASKS, maps, write_files, write_published
from tests.processes import ROOT, run_two_processes
from tests.small import trainer
from tl import CifarDataModule, DenseFolderDataModule, MultiTaskDataModule, MultiTaskModule
from tl.backbones import ResNet20
from tl.data import DataError
from tl.data.images.augment import Augment
from tl.tasks import BinaryMap, Classification, Depth, Segmentation


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("data") / "rooms")


@pytest.fixture(scope="module")
def nyu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("data") / "nyu")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("data") / "city", classes=7, inverse=True)


def module(data: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(ResNet20(), data.tasks)


def weights(net: LightningModule) -> Tensor:
    return torch.cat([part.detach().flatten() for part in net.parameters()])


# What there is


def test_a_batch_has_a_map_for_each_task(rooms: Path) -> None:
    data = maps(rooms)
    data.setup("fit")
    images, targets = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert images.shape == (4, 3, 12, 16)
    assert isinstance(targets, dict)
    assert list(targets) == [task.name for task in TASKS]
    for task in data.tasks:
        assert task.check(targets[str(task.target)]).shape[0] == 4
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 8, "val": 2}


def test_one_task_alone(rooms: Path) -> None:
    data = maps(rooms, tasks=(Depth("far", target="depth"),))
    data.setup("fit")
    _, depth = next(iter(data.train_dataloader()))
    assert isinstance(depth, Tensor)
    assert depth.shape == (4, 1, 12, 16)
    assert (data.task, data.class_names) == (data.tasks[0], {})


def test_a_folder_val_validates(tmp_path: Path) -> None:
    root = write_files(tmp_path / "rooms", {"train": 4, "val": 3})
    data = maps(root)
    data.setup("fit")
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 4, "val": 3}
    assert data.describe()["val_folder"] == "val"
    with pytest.raises(DataError, match=r"has no test split: there is no folder .*rooms/test"):
        data.setup("test")


def test_a_part_of_the_labels_is_a_part_of_more(rooms: Path) -> None:
    parts = {}
    for share in (0.25, 0.5, 1.0):
        data = maps(rooms, label_fraction=share)
        data.setup("fit")
        parts[share] = {data.splits["train"].name(i) for i in range(len(data.splits["train"]))}
        assert len(data.splits["val"]) == 2
    assert parts[0.25] < parts[0.5] < parts[1.0]


def test_names_of_classes(rooms: Path) -> None:
    names = ["wall", "floor", "ceiling", "sphere", "box", "cylinder"]
    assert maps(rooms, classes={"segmentation": names}).class_names == {
        "segmentation": tuple(names)
    }
    assert maps(rooms).class_names == {"segmentation": tuple("012345")}
    assert maps(rooms).num_classes == {"segmentation": 6}


def test_all_images_are_brought_to_a_size(rooms: Path) -> None:
    data = maps(rooms, size=[8, 10], augment=Augment(padding=0, flip=False))
    data.setup("fit")
    images, targets = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert images.shape[-2:] == (8, 10)
    assert isinstance(targets, dict)
    assert {tuple(each.shape[-2:]) for each in targets.values()} == {(8, 10)}
    assert data.describe()["image_size"] == [8, 10]


def test_the_record_follows_the_contents(rooms: Path, tmp_path: Path) -> None:
    copies = [write_files(tmp_path / name) for name in "ab"]
    found = []
    for root in (rooms, *copies):
        if root == copies[1]:
            path = next((root / "train" / "depth").iterdir())
            Image.fromarray(np.asarray(Image.open(path)) + np.uint16(1)).save(path)
        for more in ({}, {"max_memory_gb": 0.0}):
            data = maps(root, **more)
            data.setup("fit")
            found.append(data.fingerprint)
    assert found[:2] == found[2:4]
    assert found[4] != found[0]
    assert found[5] != found[1]
    assert found[0].startswith("real:")


def test_streamed_batches_equal_resident_ones(rooms: Path) -> None:
    batches = []
    for limit, workers in ((4.0, 0), (0.0, 0), (0.0, 1)):
        data = maps(rooms, max_memory_gb=limit, num_workers=workers)
        data.setup("fit")
        batches.append(list(data.train_dataloader()))
    for other in batches[1:]:
        for (images, targets), (found, there) in zip(batches[0], other, strict=True):
            assert found.equal(images)
            assert isinstance(targets, dict)
            assert isinstance(there, dict)
            for name in targets:
                one, two = targets[name], there[name]
                torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


# The published arrays


def test_nyuv2_as_published(nyu: Path) -> None:
    data = DenseFolderDataModule(root=str(nyu), layout="nyuv2", batch_size=9)
    data.setup("fit")
    data.setup("test")
    # the published codes report `val`; part of the training images chooses
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 9, "val": 1, "test": 4}
    assert data.data_name == "nyuv2"
    assert data.class_names["segmentation"][0] == "bed"
    images, targets = next(iter(data.train_dataloader()))
    assert images.dtype == torch.uint8
    assert isinstance(targets, dict)
    assert (targets["label"][:, 0, 0] == -1).all()
    assert targets["depth"][:, 0, 0, 1].isnan().all()
    assert targets["normal"][:, :, 0, 2].isnan().all()
    length = targets["normal"].norm(dim=1)
    torch.testing.assert_close(length[~length.isnan()], torch.ones(9 * (12 * 16 - 1)))


def test_cityscapes_as_published(city: Path) -> None:
    data = DenseFolderDataModule(
        root=str(city), layout="cityscapes", augment=Augment(padding=0, flip=False, scales=(2.0,))
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    draws = data._ready().draws(batch, 0, 0, 0)
    _, targets = data.transform(batch, draws)
    assert isinstance(batch[1], dict)
    assert isinstance(targets, dict)
    # nearer things have a larger inverse depth
    assert targets["depth"].nanmean() > 1.5 * batch[1]["depth"].nanmean()


@pytest.mark.parametrize("layout", ["nyuv2", "cityscapes"])
def test_without_the_files_the_layout_is_said(tmp_path: Path, layout: Any) -> None:
    data = DenseFolderDataModule(root=str(tmp_path), layout=layout)
    with pytest.raises(DataError) as error:
        data.setup("fit")
    said = str(error.value)
    assert "\n" not in said
    for part in ("{train,val}/{image,label,depth", "0.npy", "github.com/lorenmt/mtan", "-1 to"):
        assert part in said


# The augmentation


def test_the_augmentation_is_that_of_the_protocol(rooms: Path) -> None:
    data = maps(rooms)
    assert data.settings.augment == Augment(padding=0, flip=True, scales=(1.0, 1.2, 1.5))
    assert data.augment is None
    MultiTaskDataModule(sources={"a": data}, augment=Augment(padding=2))
    assert data.settings.augment == Augment(padding=2)
    own = maps(rooms, augment=Augment(padding=0))
    MultiTaskDataModule(sources={"a": own}, augment=Augment(padding=2))
    assert own.settings.augment == Augment(padding=0)


def test_training_batches_are_a_function_of_epoch_and_step(rooms: Path) -> None:
    found = []
    for _ in range(2):
        data = maps(rooms)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        found.append([data.transform(batch, data._ready().draws(batch, 0, s, 0)) for s in (0, 1)])
    assert found[0][0][0].equal(found[1][0][0])
    assert not found[0][0][0].equal(found[0][1][0])


# Runs


def test_one_network_learns_all(rooms: Path, tmp_path: Path) -> None:
    data = maps(rooms)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(data), data)
    wanted = ("segmentation/miou", "depth/abs", "normals/mean", "floor/f1")
    assert all(torch.isfinite(run.callback_metrics[f"val/{name}"]) for name in wanted)
    run.test(module(data), data)
    assert torch.isfinite(run.callback_metrics["test/depth/rmse"])


@pytest.mark.parametrize("limit", [4.0, 0.0])
def test_a_run_resumes_within_an_epoch(rooms: Path, tmp_path: Path, limit: float) -> None:
    def fit(steps: int, **more: Any) -> LightningModule:
        data = maps(rooms, batch_size=2, max_memory_gb=limit)
        net = module(data)
        run = trainer(tmp_path, max_steps=steps, max_epochs=9)
        run.fit(net, data, **more)
        run.save_checkpoint(tmp_path / f"{steps}.ckpt")
        return net

    whole = fit(6)
    fit(3)
    resumed = fit(6, ckpt_path=tmp_path / "3.ckpt", weights_only=True)
    assert weights(resumed).equal(weights(whole))


def test_other_maps_are_not_resumed_on(rooms: Path, tmp_path: Path) -> None:
    data = maps(rooms)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(data), data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    other = maps(rooms, scale={"depth": 0.01})
    with pytest.raises(DataError, match="the run to resume was trained on real:"):
        trainer(tmp_path, max_epochs=2).fit(
            module(other), other, ckpt_path=tmp_path / "a.ckpt", weights_only=True
        )


def test_a_checkpoint_is_evaluated_and_predicts_without_the_training_images(
    rooms: Path, tmp_path: Path
) -> None:
    data = maps(rooms)
    net, run = module(data), trainer(tmp_path, max_epochs=1)
    run.fit(net, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    [wanted] = run.test(net, data)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "test").symlink_to(rooms / "test")
    there = maps(alone)
    given: dict[str, Any] = {"ckpt_path": tmp_path / "a.ckpt", "weights_only": True}
    [found] = trainer(tmp_path, max_epochs=1).test(module(there), there, **given)
    assert found == wanted
    there = maps(alone, predict_folder=str(rooms / "test" / "image"))
    batches = trainer(tmp_path, max_epochs=1).predict(module(there), there, **given)
    assert batches


def test_among_several_sources(rooms: Path, nyu: Path, tmp_path: Path) -> None:
    kinds = Segmentation("kinds", 6, target="segmentation")
    data = MultiTaskDataModule(
        sources={
            "rooms": maps(rooms, tasks=(kinds,), scale=None, size=32),
            "nyu": DenseFolderDataModule(root=str(nyu), layout="nyuv2", size=(32, 32)),
            "cifar10": CifarDataModule(name="cifar10", images="generated", generated_size=40),
        },
        batch_size=4,
    )
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    assert [task.name for task in data.tasks] == [
        *("kinds", "segmentation", "depth", "normals", "cifar10")
    ]
    assert data.num_classes == {"kinds": 6, "segmentation": 13, "cifar10": 10}
    run.fit(module(data), data)
    assert {"val/kinds/miou", "val/depth/abs", "val/cifar10/acc"} <= set(run.callback_metrics)
    assert set(data.describe()) == {"rooms", "nyu", "cifar10"}


SCRIPT = """
import json, sys
import torch
from tests.data.dense.test_folder import module
from tests.data.dense.written import maps
from tests.small import trainer

if __name__ == "__main__":
    devices, root, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    data = maps(root, batch_size=4 // devices)
    net = module(data)
    run = trainer(".", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=1)
    run.test(net, data, verbose=False)
    found = {k: float(v) for k, v in run.callback_metrics.items()}
    run.fit(net, data)
    weights = torch.cat([p.detach().flatten() for p in net.parameters()])
    every = run.strategy.all_gather(weights) if devices > 1 else weights[None]
    assert (every == every[0]).all()
    if run.is_global_zero:
        with open(out, "w") as file:
            json.dump({**found, "fingerprint": data.fingerprint}, file)
    if devices > 1:
        torch.distributed.destroy_process_group()
"""


def test_two_processes_score_as_one_does(rooms: Path, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    subprocess.run(
        [sys.executable, "run.py", "1", str(rooms), "one.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    run_two_processes(["run.py", "2", str(rooms), "two.json"], tmp_path)
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert one.pop("fingerprint") == two.pop("fingerprint")
    assert {"test/segmentation/miou", "test/normals/median", "test/depth/rmse"} <= set(one)
    assert two == pytest.approx(one, rel=1e-5)


# Bad input, before training


def spoil(root: Path, what: str) -> str:
    """Make one kind of error; return what must be said."""
    folder = root / "train"
    kinds, depth = folder / "segmentation" / "003.png", folder / "depth" / "003.png"
    if what == "size":
        Image.new("L", (5, 5)).save(kinds)
        return r"003\.png has 5x5 pixels, its image 003\.png 12x16"
    if what == "label":
        Image.new("L", (16, 12), 9).save(kinds)
        return r"segmentation/003\.png is above the last class \(9\).*expected class"
    if what in ("negative", "infinite"):
        depth.unlink()
        value = -1.0 if what == "negative" else np.inf
        np.save(depth.with_suffix(".npy"), np.full((12, 16), value, np.float32))
        return rf"depth/003\.npy is {'below 0' if what == 'negative' else 'infinite'}"
    if what == "missing":
        depth.unlink()
        return r"1 of 10 images .* have no map in .*depth; the first is 003\.png"
    if what in ("palette", "colours"):
        Image.new("P" if what == "palette" else "RGB", (16, 12)).save(kinds)
        return r"segmentation/003\.png has (a palette|the channels RGB).*one channel"
    np.save(folder / "normals" / "003.npy", np.full((12, 16, 3), 0.9, np.float32))
    return r"normals/003\.npy is a vector of another length than 1"


BAD = ("size", "label", "negative", "infinite", "missing", "palette", "colours", "normals")


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("limit", [4.0, 0.0])
def test_bad_files_are_named_before_training(tmp_path: Path, what: str, limit: float) -> None:
    root = write_files(tmp_path / "rooms", {"train": 10})
    said = spoil(root, what)
    with pytest.raises(DataError, match=said) as error:
        maps(root, max_memory_gb=limit).setup("fit")
    assert "\n" not in str(error.value)


def test_bad_test_files_are_named_before_training_too(tmp_path: Path) -> None:
    root = write_files(tmp_path / "rooms")
    Image.new("L", (16, 12), 9).save(root / "test" / "segmentation" / "002.png")
    with pytest.raises(DataError, match=r"test/segmentation/002\.png is above the last class"):
        maps(root).setup("fit")


def test_images_of_several_sizes_need_one(tmp_path: Path) -> None:
    root = write_files(tmp_path / "rooms")
    Image.new("RGB", (16, 13)).save(root / "test" / "image" / "001.png")
    with pytest.raises(DataError, match=r"001\.png has 13x16 pixels.*`size: \[height, width\]`"):
        maps(root).setup("fit")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tasks": ()}, "`tasks` is empty"),
        ({"tasks": (Classification("a", 3),)}, "'a' is a classification, which has no map"),
        ({"tasks": (BinaryMap("image"),)}, "the folder of the images and of a task's maps"),
        ({"void": {"labels": 255}}, "`void` names labels; the tasks read depth, floor"),
        ({"scale": {"far": 1.0}}, "`scale` names far"),
        ({"classes": {"segmentation": ["a"]}}, "has 1 names for 'segmentation'"),
        ({"size": 0}, "`size` must be"),
        ({"size": (3, 4, 5)}, "`size` must be"),
        ({"layout": "cityscapes", "tasks": (Depth("depth"),)}, "set `inverse: true`"),
    ],
)
def test_bad_options_are_refused(rooms: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        maps(rooms, **given)


def test_no_balance_without_classes_of_images(rooms: Path) -> None:
    data = maps(rooms, sampling="balanced")
    data.setup("fit")
    with pytest.raises(DataError, match="needs one class per image"):
        data.train_dataloader()


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_unit_that_makes_no_depths_is_refused(unit: float) -> None:
    with pytest.raises(ValueError, match=r"`scale` must be above 0, got .* for 'depth'"):
        DenseFolderDataModule(tasks=(Depth("depth"),), scale={"depth": unit})
