from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.data.dense.written import maps, write_files
from tests.images import class_folders
from tl.data import FolderDataModule
from tl.data.files import FilesDataModule


def of_kind(kind: str, root: Path, memory: float) -> FilesDataModule:
    if kind == "maps":
        return maps(write_files(root / "rooms"), max_memory_gb=memory)
    class_folders(root / "classes", count=6)
    return FolderDataModule(root=str(root / "classes"), size=8, max_memory_gb=memory)


@pytest.mark.parametrize("kind", ["classes", "maps"])
def test_what_fits_into_memory_is_kept_and_the_rest_streamed(kind: str, tmp_path: Path) -> None:
    kept, streamed = (of_kind(kind, tmp_path / str(gb), gb) for gb in (1.0, 0.0))
    assert kept.caches()
    assert not streamed.caches()
    for data in (kept, streamed):
        data.setup("fit")
        assert data.bytes_needed("train") > 0
    assert kept.statistics is not None
    assert streamed.statistics is not None
    for one, other in zip(kept.statistics, streamed.statistics, strict=True):
        torch.testing.assert_close(one, other)


def test_a_source_is_named_after_its_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "my photos", count=2)
    inside = FolderDataModule(root=str(tmp_path), folder="my photos")
    assert inside.data_name == FolderDataModule(root=str(tmp_path / "my photos")).data_name
    assert inside.data_name == "my_photos"
