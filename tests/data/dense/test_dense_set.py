from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.data.dense.written import TASKS, reader, write_files
from tl.data import DataError
from tl.data.dense.dense_set import load_samples, over, stream_samples
from tl.data.dense.reading import read_sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "rooms", {"train": 6}) / "train"


def same(one: object, other: object) -> None:
    assert isinstance(one, dict)
    assert isinstance(other, dict)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0, equal_nan=True)


def test_in_memory_from_the_cache_and_streamed_are_the_same(folder: Path, tmp_path: Path) -> None:
    found = [load_samples(reader(folder), tmp_path / "cache", "") for _ in range(2)]
    found += [load_samples(reader(folder), None, "")]
    streamed = stream_samples(reader(folder), "").only([task.name for task in TASKS])
    rows = torch.tensor([4, 1, 1])
    images, targets = streamed[rows]
    assert images.shape == (3, 3, 12, 16)
    for each in found:
        pixels, maps = each.only([task.name for task in TASKS])[rows]
        assert pixels.equal(images)
        same(maps, targets)
    assert len({each.digest() for each in found}) == 1


def test_the_cache_is_read_without_decoding(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_samples(reader(folder), tmp_path / "cache", "")
    decoded: list[Path] = []

    def counted(image: Path, *given: Any, **named: Any) -> Any:
        decoded.append(image)
        return read_sample(image, *given, **named)

    monkeypatch.setattr("tl.data.dense.sample_reader.read_sample", counted)
    load_samples(reader(folder), tmp_path / "cache", "")
    assert len(decoded) == 1  # for the shapes
    np.save(folder / "normals" / "003.npy", np.load(folder / "normals" / "002.npy"))
    load_samples(reader(folder), tmp_path / "cache", "")
    assert len(decoded) == 2 + 6


def test_a_changed_map_changes_the_hash_of_both(folder: Path) -> None:
    def digests() -> tuple[str, str]:
        one, other = load_samples(reader(folder), None, ""), stream_samples(reader(folder), "")
        return one.digest(), other.digest()

    before = digests()
    assert digests() == before
    np.save(folder / "normals" / "003.npy", np.load(folder / "normals" / "002.npy"))
    after = digests()
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_part_of_the_streamed_maps(folder: Path) -> None:
    whole = stream_samples(reader(folder), "")
    part = whole.only(["depth"]).subset(torch.tensor([5, 2]))
    _, depth = part[torch.tensor([1])]
    assert isinstance(depth, Tensor)
    assert depth[0].equal(whole.reader.read(2)[1]["depth"])
    image, one = part[0]
    assert image.shape == (3, 12, 16)
    assert isinstance(one, Tensor)
    assert one.shape == (1, 12, 16)
    _, index = part.unlabelled()[torch.tensor([0, 1])]
    assert isinstance(index, Tensor)
    assert index.tolist() == [0, 1]
    assert part.name(0) == "image/005.png"


def test_a_map_of_another_kind_of_shape_is_named(folder: Path) -> None:
    np.save(folder / "normals" / "004.npy", np.ones((12, 16)))
    with pytest.raises(DataError, match=r"normals/004\.npy is of shape \(12, 16\)"):
        load_samples(reader(folder), None, "")


def test_the_first_error_is_shown_with_the_count() -> None:
    def fail(row: int) -> int:
        if row in (3, 5):
            raise DataError(f"{row} is wrong.")
        return row

    with pytest.raises(DataError, match=r"^3 is wrong\. That is the first of 2 of 8 samples"):
        over(fail, 8, "")
    assert over(fail, 3, "") == [0, 1, 2]
    with pytest.raises(DataError, match=r"^3 is wrong\.$"):
        over(fail, 4, "")


@pytest.mark.parametrize("changed", ["image/003.png", "normals/003.npy"])
def test_files_that_change_between_hashing_and_reading_are_refused_and_not_cached(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    cache, path = tmp_path / "cache", folder / changed
    before, other = path.read_bytes(), path.with_stem("002").read_bytes()
    right = load_samples(reader(folder), None, "").digest()
    started: list[Path] = []

    def swapped(image: Path, *given: Any, **named: Any) -> Any:
        started.append(image)
        if len(started) > 1:  # the first is read for the shapes
            path.write_bytes(other)
        return read_sample(image, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr("tl.data.dense.sample_reader.read_sample", swapped)
        with pytest.raises(DataError, match=rf"{changed} changed after this run had hashed it"):
            load_samples(reader(folder), cache, "")
    path.write_bytes(before)
    assert load_samples(reader(folder), cache, "").digest() == right


def test_streamed_files_that_change_during_the_run_are_refused(folder: Path) -> None:
    streamed = stream_samples(reader(folder), "")
    np.save(folder / "normals" / "003.npy", np.load(folder / "normals" / "002.npy"))
    streamed.pixels(torch.tensor([3]))  # of which the maps are not read
    with pytest.raises(DataError, match=r"normals/003\.npy changed after this run"):
        streamed[torch.tensor([3])]
    (folder / "image" / "004.png").write_bytes((folder / "image" / "005.png").read_bytes())
    with pytest.raises(DataError, match=r"image/004\.png changed after this run"):
        streamed.pixels(torch.tensor([4]))
