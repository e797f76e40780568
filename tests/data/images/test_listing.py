from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from PIL import Image

from tl.data.images.decoding import decode
from tl.data.images.listing import list_files, list_images, log_left_out

PICTURE = Image.radial_gradient("L").resize((16, 16)).convert("RGB")


@pytest.mark.parametrize(
    "name", ["a.avif", "a.jp2", "a.j2k", "a.tga", "a.qoi", "a.sgi", "a.pcx", "a.dds", "a.ico"]
)
@pytest.mark.parametrize("called", [None, "a", "a.HEIC", "a.png", "a.v1"])
def test_every_raster_file_counts_whatever_its_name(
    tmp_path: Path, name: str, called: str | None
) -> None:
    try:
        PICTURE.save(path := tmp_path / name)
    except (OSError, KeyError):
        pytest.skip("Pillow was built without it")
    if called:
        path = path.rename(tmp_path / called)
    assert list_files(tmp_path) == ([path], [])
    assert decode(path, 16).shape == (16, 16, 3)


def test_what_looks_like_an_image_counts_and_other_files_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [tmp_path / name for name in ("a.heic", "b.svg", "c.eps", "d.jxl", "e.nef", "f.png")]
    others = [tmp_path / name for name in ("notes.txt", "readme", "t.csv", "v.mp4")]
    for path in images + others:
        path.write_text("no image")
    (tmp_path / ".DS_Store").write_text("hidden")
    os.mkfifo(tmp_path / "pipe")
    assert list_files(tmp_path) == (images, sorted([*others, tmp_path / "pipe"]))
    with caplog.at_level(logging.INFO):
        log_left_out([Path(f"{i:02}.txt") for i in range(23)], "a folder")
    assert "a folder: left out 23 files (not images)" in caplog.text
    assert "19.txt and 3 more" in caplog.text
    assert "20.txt" not in caplog.text


def test_a_link_to_nothing_is_not_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "a"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    assert list_images(tmp_path) == [tmp_path / "a", tmp_path / "a.png"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (far := tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    PICTURE.save(far / "1.png")
    (folder := tmp_path / "class").mkdir()
    (folder / "a").symlink_to(far.parent)
    (folder / "b").symlink_to(far)
    (far / "back").symlink_to(folder)
    assert list_images(folder) == [folder / "b" / "1.png"]  # the shorter way
