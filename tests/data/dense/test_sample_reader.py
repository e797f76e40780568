from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.data.dense.written import reader, write_files
from tl.data import DataError
from tl.data.images.contents import Contents, stat_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "rooms", {"train": 6}) / "train"


def test_the_bytes_of_all_samples(folder: Path) -> None:
    pixels = 12 * 16
    assert reader(folder).bytes_needed() == 6 * pixels * (3 + 1 + 4 + 12 + 1)


def test_a_sample_is_read_if_none_of_its_files_has_changed(folder: Path) -> None:
    samples, contents = reader(folder), Contents(6 * 5)
    paths = samples.paths(4)
    assert [path.parent.name for path in paths] == [
        *("image", "segmentation", "depth", "normals", "floor")
    ]
    for number, path in enumerate(paths, 4 * 5):
        contents.note(number, hashlib.sha256(path.read_bytes()).digest(), stat_of(path))
    image, _ = samples.read_unchanged(4, contents)
    assert image.equal(samples.read(4)[0])
    paths[4].write_bytes(samples.paths(3)[4].read_bytes())
    with pytest.raises(DataError, match=r"floor/004\.png changed after this run had hashed it"):
        samples.read_unchanged(4, contents)
