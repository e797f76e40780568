"""One warning counts the images or texts that one source evaluates and another trains on."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.data.dense.written import TASKS, maps, write_files
from tests.data.test_following import same_images
from tests.images import class_folders
from tl import NTXent
from tl.data import (
    CsvDataModule,
    FolderDataModule,
    GeneratedDataModule,
    MultiTaskDataModule,
    TextDataModule,
)
from tl.data.images.resident import ImageDataset
from tl.data.overlaps import Keys, warn_of_overlaps


def said(data: MultiTaskDataModule) -> list[str]:
    """What the start of training warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        data.setup("fit")
    return [str(w.message) for w in found if "share a backbone" in str(w.message)]


def keys(train: bytes, **held_out: bytes) -> Keys:
    parts = {"train": train, **held_out}
    return {split: [bytes([key]) for key in part] for split, part in parts.items()}


def test_held_out_images_that_train_another_source_are_counted() -> None:
    sources = {"a": keys(b"123", val=b"45", test=b"67"), "b": keys(b"1246", val=b"35", test=b"7")}
    both = "1 of 2 validation and 1 of 2 test images of a train b; 1 of 2 validation images of b"
    with pytest.warns(UserWarning, match=f"^{both} train a\\. a and b share") as found:
        warn_of_overlaps(sources, {"a", "b"}, "images")
    assert len(found) == 1
    with pytest.warns(UserWarning, match=r"^1 of 2 validation images of b train a\. a and b"):
        warn_of_overlaps(sources, {"a"}, "images")


def test_copies_within_a_source_are_not_those_of_another() -> None:
    """Both hold one copy out and train on the other: their splits agree."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_overlaps(
            {"a": keys(b"11", val=b"1"), "b": keys(b"12", val=b"1")}, {"a", "b"}, "images"
        )


def rated(folder: Path) -> Path:
    """Write a table of images with a class and a number, and a column of splits."""
    root = class_folders(folder, count=10)
    parts = ("train", "val", "test")
    rows = [
        f"{path.relative_to(root)},{path.parent.name},{number},{parts[number % 3]}"
        for number, path in enumerate(sorted(root.rglob("*.png")))
    ]
    (root / "labels.csv").write_text("\n".join(["image,label,age,part", *rows]))
    return root


def two(root: Path, **options: Any) -> MultiTaskDataModule:
    kinds: dict[str, Any] = {"kind": "label", "age": {"age": "number"}}
    sources = {n: CsvDataModule(targets=targets, **options) for n, targets in kinds.items()}
    return MultiTaskDataModule(sources=sources, root=str(root), batch_size=4)


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_two_targets_of_one_table_as_two_sources_are_told(tmp_path: Path, memory: float) -> None:
    root = rated(tmp_path / "images")
    data = two(root, max_memory_gb=memory)
    [warning] = said(data)
    data.setup("test")
    names = {
        source: {s: {d.name(i) for i in range(len(d))} for s, d in part.splits.items()}
        for source, part in data.sources.items()
    }
    for one, other in (("kind", "age"), ("age", "kind")):
        for split, words in (("val", "validation"), ("test", "test")):
            held_out = names[one][split]
            if count := len(held_out & names[other]["train"]):
                assert f"{count} of {len(held_out)} {words}" in warning
    assert "several `targets`" in warning
    assert not said(two(root, max_memory_gb=memory, split="part"))
    idle = two(root, max_memory_gb=memory)
    idle.trains = {"age": False}
    [warning] = said(idle)
    assert "train kind" in warning
    assert "train age" not in warning


def test_copies_of_the_images_in_other_folders_are_the_same(tmp_path: Path) -> None:
    one = class_folders(tmp_path / "one", ("cat", "dog"), count=10)
    for number, path in enumerate(sorted(one.rglob("*.png"))):
        other = tmp_path / "other" / ("ill", "well")[number // 3 % 2]
        other.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, other / f"{number}.png")
    folders = {name: FolderDataModule(root=str(tmp_path / name)) for name in ("one", "other")}
    [warning] = said(MultiTaskDataModule(sources=folders, batch_size=4))
    assert "of one train other" in warning


def test_sources_that_hold_out_the_same_images_are_fine() -> None:
    def source(**options: Any) -> GeneratedDataModule:
        return GeneratedDataModule(train_size=60, test_size=20, **options)

    def views(**options: Any) -> MultiTaskDataModule:
        sources = {
            "labels": source(label_fraction=0.5),
            "views": source(label_fraction=1.0, learns=NTXent(), **options),
        }
        return MultiTaskDataModule(sources=sources, batch_size=20, val_size=0.2)

    assert not said(same_images())
    assert not said(views())
    assert said(views(seed=7))


def test_pixels_of_sets_with_other_names_are_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take half a second at each start on CIFAR-10 and CIFAR-100."""
    monkeypatch.setattr(ImageDataset, "image_keys", lambda _: pytest.fail("hashed"))
    sources = {"a": GeneratedDataModule(classes=10), "b": GeneratedDataModule(classes=100)}
    assert not said(MultiTaskDataModule(sources=sources, batch_size=20))


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_maps_of_the_same_images_are_told_by_the_paths_of_the_images(
    tmp_path: Path, memory: float
) -> None:
    root = write_files(tmp_path / "rooms")

    def two_sources(seed: int) -> MultiTaskDataModule:
        options: dict[str, Any] = {"max_memory_gb": memory, "val_size": 0.3}
        one = maps(root, tasks=TASKS[2:3], scale=None, seed=0, **options)
        other = maps(root, tasks=TASKS[3:], scale=None, seed=seed, **options)
        return MultiTaskDataModule(sources={"one": one, "other": other}, batch_size=2)

    assert not said(two_sources(0))
    assert len(said(two_sources(1))) == 1


def test_two_targets_of_one_table_of_texts_as_two_sources_are_told(tmp_path: Path) -> None:
    parts = ("train", "val", "test")
    rows = [f"text {n},{n % 2},{n % 5},{parts[n % 3]}" for n in range(60)]
    table = tmp_path / "texts.csv"
    table.write_text("\n".join(["text,mood,topic,part", *rows]))

    def sources(**options: Any) -> MultiTaskDataModule:
        made = {
            target: TextDataModule(str(table), targets=target, vocab_size=60, **options)
            for target in ("mood", "topic")
        }
        return MultiTaskDataModule(sources=made, batch_size=4, val_size=0.25)

    data = sources()
    [warning] = said(data)
    held_out = {
        name: {*source.texts_by_split()["val"]}
        for name, source in data.sources.items()
        if isinstance(source, TextDataModule)
    }
    count = len(held_out["mood"]) - len(held_out["mood"] & held_out["topic"])
    assert warning.startswith(f"{count} of 15 validation texts of mood train topic; ")
    assert "files for `train`, `val` and `test`" in warning
    assert not said(sources(split="part"))
