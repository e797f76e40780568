"""Names that show the same are the same, whichever Unicode form they are written in."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from lightning.pytorch import Trainer
from PIL import Image

from tests.small import Tiny, trainer
from tl import CsvDataModule, FolderDataModule, TextDataModule, TransferModule
from tl.data import DataError
from tl.data.images.class_folders import find_classes, find_images
from tl.data.naming import composed, name_of_folder, name_of_table, plain_name
from tl.data.trained_on import same_names
from tl.transfer.source import rows_by_name

CLASSES = ("agneau", "zébu", "âne")  # in the longer form, "âne" comes first
CLASSES_OF_A_MAC = tuple(unicodedata.normalize("NFD", name) for name in CLASSES)


def write(root: Path, form: Literal["NFC", "NFD"]) -> FolderDataModule:
    """The same images in folders, and a table of groups, in a normal form."""
    for split in ("train", "test"):
        for grey, name in enumerate(CLASSES):
            folder = root / split / unicodedata.normalize(form, name)
            folder.mkdir(parents=True)
            for number, stem in enumerate("éfg"):
                path = folder / f"{unicodedata.normalize(form, stem)}.png"
                Image.new("RGB", (8, 8), (40 * grey, 40 * number, 0)).save(path)
    table = root.with_suffix(".csv")
    rows = zip(CLASSES, ("bêtes", "bêtes", "à part"), strict=True)
    text = "class,group\n" + "".join(f"{name},{group}\n" for name, group in rows)
    # the table in the other form than the folders
    table.write_text(unicodedata.normalize("NFC" if form == "NFD" else "NFD", text), "utf-8")
    return FolderDataModule(
        root=str(root), size=8, groups=str(table), targets="both", batch_size=4, val_size=0.4
    )


def test_both_forms_give_the_same_data(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", "NFC"), write(tmp_path / "b", "NFD")
    for data in (one, other):
        data.setup("fit")
        assert data.target_classes() == {"fine": CLASSES, "coarse": ("bêtes", "à part")}
    assert one.fingerprint == other.fingerprint
    assert one.class_groups() == other.class_groups()
    paths = find_images(tmp_path / "b" / "train").paths  # as they are on disk
    assert all(path.exists() for path in paths)
    assert {path.parent.name for path in paths} == set(CLASSES_OF_A_MAC)


def test_a_run_is_evaluated_and_resumed_in_the_other_form(tmp_path: Path) -> None:
    def quick(epochs: int) -> Trainer:
        return trainer(tmp_path, max_epochs=epochs)

    one, other = write(tmp_path / "photos", "NFC"), write(tmp_path / "b" / "photos", "NFD")
    one.targets = other.targets = "fine"
    run, path = quick(1), tmp_path / "a.ckpt"
    run.fit(TransferModule(Tiny(), one.task), one)
    run.save_checkpoint(path)
    for verb in ("validate", "test"):
        getattr(quick(1), verb)(
            TransferModule(Tiny(), other.task), other, ckpt_path=path, weights_only=True
        )
    quick(2).fit(TransferModule(Tiny(), other.task), other, ckpt_path=path, weights_only=True)
    net = TransferModule(Tiny(), other.task, init_from=str(path), init_heads=True)
    quick(1).fit(net, other)


def test_names_of_older_checkpoints_are_compared_in_one_form() -> None:
    same_names(CLASSES_OF_A_MAC, CLASSES, "classes")
    assert rows_by_name(CLASSES_OF_A_MAC, CLASSES, "The head") is None
    assert rows_by_name(CLASSES_OF_A_MAC[::-1], CLASSES, "The head") == [2, 1, 0]
    assert composed(CLASSES_OF_A_MAC[1]) == CLASSES[1] != CLASSES_OF_A_MAC[1]


def test_names_that_differ_in_what_is_not_seen_are_told_apart() -> None:
    for name, said in (
        ("ant ", r"'ant '"),
        ("a\u200bnt", r"'a\\u200bnt'"),
        ("ant\u00a0", r"'ant\\xa0'"),
    ):
        with pytest.raises(DataError, match=rf"only there: {said}; only here: ant\)"):
            same_names((name, "bee"), ("ant", "bee"), "classes")
        with pytest.raises(
            ValueError, match=rf"the classes {said}, bee, but the data have ant, bee"
        ):
            rows_by_name((name, "bee"), ("ant", "bee"), "The head")


def test_two_folders_of_one_class_are_refused(tmp_path: Path) -> None:
    for name in (CLASSES[1], CLASSES_OF_A_MAC[1]):
        (tmp_path / name).mkdir()
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system knows one form only")
    with pytest.raises(DataError, match="has two folders of the class zébu"):
        find_classes(tmp_path)


def test_a_plain_name_has_what_tasks_allow() -> None:
    assert [plain_name(name) for name in ("âne 2", "_a-b", "日本")] == ["ane_2", "a-b", ""]


def test_data_in_a_folder_called_train_have_the_name_around_it(tmp_path: Path) -> None:
    assert name_of_folder(tmp_path / "flowers" / "train") == "flowers"
    assert name_of_folder(tmp_path / "train" / "flowers 2") == "flowers_2"
    root = tmp_path / "flowers"
    write(root, "NFC")
    data = FolderDataModule(root=str(root / "train"), val_size=0.4)
    assert [task.name for task in data.tasks] == ["flowers"]
    TransferModule(Tiny(), data.tasks[0])  # torch refuses a head called train


def test_data_in_a_table_called_train_have_the_name_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "flowers 2"
    assert name_of_table(folder / "train.csv.xz") == "flowers_2"
    assert name_of_table(folder / "labels.csv") == "labels"
    text = TextDataModule(str(folder / "train.csv"), targets={"label": "class"})
    images = CsvDataModule(root=str(folder), table="train.csv")
    assert (text.data_name, images.data_name) == ("flowers_2", "flowers_2")
