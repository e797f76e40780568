from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from tl.data import (
    CifarDataModule,
    DenseFolderDataModule,
    FolderDataModule,
    GeneratedDataModule,
    MultiTaskDataModule,
)
from tl.data.images.augment import Augment
from tl.data.options import checked_option


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("seed", 1.5, "a whole number, got 1.5"),
        ("batch_size", True, "a whole number, got True"),
        ("batch_size", 16.0, "a whole number, got 16.0"),
        ("val_size", "0.1", "a number, got '0.1'"),
        ("root", 3, "text, got 3"),
        ("augment", "flip", "of kind Augment, got 'flip'"),
        ("train_size", 200.5, "a whole number, got 200.5"),
        ("targets", "fin", "'fine', 'coarse' or 'both', got 'fin'"),
        ("classes", 10.0, "10 or 100, got 10.0"),
    ],
)
def test_types_are_checked_when_built_and_when_set(option: str, value: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"`{option}` must be {said}"):
        GeneratedDataModule(**{option: value})
    data = GeneratedDataModule(train_size=200)
    before = getattr(data, option)
    with pytest.raises((TypeError, ValueError), match=f"`{option}` must be {said}"):
        setattr(data, option, value)
    assert getattr(data, option) == before


def test_types_are_checked_around_several_sources_and_of_augmentation() -> None:
    with pytest.raises(TypeError, match="`seed` must be a whole number"):
        MultiTaskDataModule(sources={"a": GeneratedDataModule()}, seed=1.5)  # type: ignore[arg-type]
    data = MultiTaskDataModule(sources={"a": GeneratedDataModule()})
    with pytest.raises(TypeError, match="`batch_size` must be a whole number"):
        data.batch_size = 16.0  # type: ignore[assignment]
    assert data.batch_size is None
    with pytest.raises(ValueError, match="`epoch_length` must be 'longest', 'shortest' or a"):
        data.epoch_length = "long"  # type: ignore[assignment]
    with pytest.raises(TypeError, match="`flip` must be True or False, got 'no'"):
        Augment(flip="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`images` must be 'real' or 'generated', got 'generted'"):
        CifarDataModule(images="generted")  # type: ignore[arg-type]


def test_numbers_of_other_libraries_and_paths_become_plain(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    data = FolderDataModule(root=tmp_path, seed=np.int64(3), val_size=0)  # type: ignore[arg-type]
    assert (type(data.settings.root), data.settings.root) == (str, str(tmp_path))
    assert (type(data.settings.seed), data.settings.seed) == (int, 3)
    assert data.settings.val_size == 0


def test_what_cannot_be_checked_is_left_alone() -> None:
    @dataclass
    class Odd:
        several: list[int]
        loose: int = None  # type: ignore[assignment]

    assert checked_option(Odd, "several", 3) == 3
    assert checked_option(Odd, "loose", None) is None
    assert checked_option(Odd, "other", "x") == "x"


@pytest.mark.parametrize(
    ("name", "option"),
    [("batchsize", "batch_size"), ("lable_fraction", "label_fraction"), ("seeds", "seed")],
)
def test_a_misspelt_option_is_refused(name: str, option: str) -> None:
    source = GeneratedDataModule(train_size=200)
    for data in (source, MultiTaskDataModule(sources={"a": source})):
        with pytest.raises(AttributeError, match=f"no option '{name}'. Did you mean '{option}'"):
            setattr(data, name, 16)


def test_attributes_of_ones_own_may_be_set() -> None:
    class Mine(GeneratedDataModule):
        batch_sizes: list[int]

        def __init__(self) -> None:
            super().__init__(train_size=200)
            self.seeds = [1, 2]
            self.batch_sizes = [3]

    mine: Any = Mine()
    mine.note = "anything else"
    mine._batchsize = 3
    mine.trainer = None
    mine.prepare_data_per_node = False
    mine.allow_zero_length_dataloader_with_multiple_devices = True
    assert (mine.seeds, mine.batch_sizes) == ([1, 2], [3])
    with pytest.raises(AttributeError, match="Did you mean 'batch_size'"):
        mine.batchsize = 16


def test_a_setting_that_no_source_takes_is_refused() -> None:
    cifar = CifarDataModule(batch_size=5)
    data = MultiTaskDataModule(sources={"a": GeneratedDataModule(batch_size=8), "b": cifar})
    with pytest.raises(ValueError, match=r"have no effect.*`data.sources..a...batch_size = 16`"):
        data.batch_size = 16
    assert data.batch_size is None
    data.generated_size = 300
    assert cifar.generated_size == 300
    only = MultiTaskDataModule(sources={"a": GeneratedDataModule()})
    with pytest.raises(ValueError, match="`generated_size` would have no effect"):
        only.generated_size = 300


@pytest.mark.parametrize(
    "kind", [CifarDataModule, DenseFolderDataModule, FolderDataModule, GeneratedDataModule]
)
def test_the_command_line_knows_the_types_of_inherited_options(kind: type) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data")
    given: dict[str, Any] = {"augment": {"padding": 0, "flip": False}, "val_size": 0.5}
    if kind is DenseFolderDataModule:
        given["layout"] = "nyuv2"
    built = parser.instantiate(parser.parse_object({"data": given}))
    assert built.data.augment == Augment(padding=0, flip=False)
    for wrong in ({"sampling": "half"}, {"batch_size": "many"}):
        with pytest.raises(ArgumentError):
            parser.parse_object({"data": {**given, **wrong}})
