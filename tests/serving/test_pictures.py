from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tl.serving.pictures import as_picture, decoded, files_in

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)


def test_a_folder_is_its_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert files_in(tmp_path) == files_in(str(tmp_path)) == [tmp_path / "a.png"]
    assert files_in(tmp_path / "a.png") is None
    assert files_in(PIXELS) is None
    with pytest.raises(ValueError, match="empty holds no images"):
        files_in(tmp_path / "empty")


def test_an_array_in_a_file_is_an_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS / 255)
    assert np.array_equal(decoded(tmp_path / "a.npy", 4), PIXELS)
    (tmp_path / "b.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        decoded(tmp_path / "b.npy", 4)
    with pytest.raises(ValueError, match="no such file"):
        decoded(tmp_path / "c.npy", 4)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\) is not an image"),
        (PIXELS.astype(np.int64), "an array of int64 is not an image"),
        (PIXELS.astype(np.float32), "expected bytes from 0 to 255, or floats from 0 to 1"),
    ],
)
def test_other_arrays_are_not_images(
    array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        as_picture(array)


def test_one_channel_is_grey() -> None:
    assert as_picture(PIXELS[:, :, :1]).mode == "L"
