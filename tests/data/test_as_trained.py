"""A data module reads images as a checkpoint was trained, or refuses with the difference."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.data.test_trained_on import read, write_images
from tl import FolderDataModule, GeneratedDataModule, MultiTaskDataModule
from tl.data.errors import DataError
from tl.data.trained_on import record_of

GROUPS = "class,group\nant,wings\nbee,wings\ncat,paws\n"


@pytest.fixture
def insects(tmp_path: Path) -> Path:
    return write_images(tmp_path / "insects")


def trained(root: Path, **options: Any) -> dict[str, Any]:
    """Return what a checkpoint keeps of a training on these images."""
    data = read(root, **options)
    data.setup("fit")
    return data.describe()


def test_the_record_says_what_evaluation_must_have_the_same(insects: Path, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text(GROUPS)
    options = {"targets": "both", "groups": str(tmp_path / "groups.csv"), "val_size": 0.5}
    found = trained(insects, size=16, seed=3, label_fraction=0.7, **options)
    assert found["class_names"] == {"fine": ["ant", "bee", "cat"], "coarse": ["paws", "wings"]}
    assert found["groups"] == {"ant": "wings", "bee": "wings", "cat": "paws"}
    assert (found["image_size"], found["seed"], found["val_size"]) == (16, 3, 0.5)
    assert found["label_fraction"] == 0.7
    assert [len(found[key]) for key in ("mean", "std")] == [3, 3]


def test_predict_needs_no_training_images(insects: Path, tmp_path: Path) -> None:
    record = trained(insects, size=8)
    data = FolderDataModule(
        root=str(tmp_path / "nothing"), size=8, predict_folder=str(insects / "test" / "cat")
    )
    data.adopt(record)
    data.setup("predict")
    assert data.class_names == {"insects": ("ant", "bee", "cat")}
    assert data.num_classes == {"insects": 3}
    assert len(data.splits["predict"]) == 2
    assert data.fingerprint == record["fingerprint"]
    data.describe()


def test_it_says_whether_everything_has_to_be_loaded_again(insects: Path) -> None:
    data = read(insects)
    data.setup("fit")
    record = data.describe()
    assert not data.adopt(record)  # the very data
    other = {**record, "fingerprint": "real:other"}
    assert data.adopt(other)
    assert not data.adopt(other)
    both = MultiTaskDataModule(sources={"insects": read(insects)})
    assert both.adopt({"insects": other})
    assert not both.adopt({"insects": other})


def test_a_test_split_may_have_a_part_of_the_classes(insects: Path) -> None:
    record = trained(insects)
    shutil.rmtree(insects / "test" / "ant")
    shutil.rmtree(insects / "train")
    data = read(insects)
    data.adopt(record)
    data.setup("test")
    assert data.splits["test"].targets["fine"].tolist() == [1, 1, 2, 2]


def test_other_classes_are_refused_with_both_lists(insects: Path) -> None:
    record = trained(insects)
    (insects / "test" / "cat").rename(insects / "test" / "Cat")
    data = read(insects)
    data.adopt(record)
    with pytest.raises(DataError, match=r"classes ant, bee, cat, .* has Cat, ant, bee \(only ther"):
        data.setup("test")


def test_the_images_held_out_validate_whatever_the_settings_say(
    insects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tl.data.as_trained.rank_zero_info", said.append)
    first = read(insects, val_size=0.5, seed=3)
    first.setup("fit")
    data = read(insects, val_size=0.2, seed=4, label_fraction=0.9)
    data.adopt(first.describe())
    data.setup("validate")
    assert data.splits["val"].index.tolist() == first.splits["val"].index.tolist()
    assert "seed 3 there, 4 here; val_size 0.5 there, 0.2 here; label_fraction 1.0" in said[-1]


def test_what_was_held_out_of_other_images_cannot_be_told(insects: Path) -> None:
    record = trained(insects)
    (insects / "train" / "ant" / "0.png").unlink()
    data = read(insects)
    data.adopt(record)
    with pytest.raises(DataError, match="which of them it held out cannot be determined"):
        data.setup("validate")


def test_training_again_ends_it(insects: Path) -> None:
    data = read(insects)
    data.adopt({**trained(insects), "mean": [1.0, 2.0, 3.0], "fingerprint": "real:other"})
    data.setup("test")
    assert data.statistics is not None
    assert data.statistics[0].tolist() == [1.0, 2.0, 3.0]
    data.setup("fit")
    assert data.statistics[0].tolist() == trained(insects)["mean"]


def test_several_sources_take_their_parts_by_name() -> None:
    def built(**names: int) -> MultiTaskDataModule:
        sources = {name: GeneratedDataModule(train_size=n) for name, n in names.items()}
        return MultiTaskDataModule(sources=sources, batch_size=16)

    first = built(a=100, b=200)
    first.setup("fit")
    data = built(b=100, a=100)
    data.adopt(first.describe())
    data.setup("test")
    known = {name: source.trained_on for name, source in data.sources.items()}
    for name, source in first.sources.items():
        found = known[name]
        assert found is not None
        assert found.fingerprint == source.fingerprint
    with pytest.raises(DataError, match="trained on the sources a, b, not on 'c'"):
        built(a=100, c=100).adopt(first.describe())


def test_the_only_source_there_is_the_only_one_here() -> None:
    part = {"name": "x", "fingerprint": "real:1"}
    assert record_of({"a": part}, "b") is part
    assert record_of(part, "b") is part


def test_an_older_checkpoint_is_evaluated_as_before_and_said(
    insects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tl.data.as_trained.rank_zero_info", said.append)
    data = read(insects)
    data.adopt({"name": "insects", "kind": "real", "fingerprint": "real:1", "seed": 0})
    data.setup("test")
    assert "does not hold the classes and the normalisation" in said[0]
    assert len(data.splits["test"]) == 6


def test_another_checkpoint_takes_the_place_of_the_first(insects: Path) -> None:
    record = trained(insects)
    other = {**record, "fingerprint": "real:other", "mean": [1.0, 2.0, 3.0]}
    data = read(insects)
    for found in (record, other, other, record):
        data.adopt(found)
        data.setup("test")
        assert data.statistics is not None
        assert data.statistics[0].tolist() == pytest.approx(found["mean"])
