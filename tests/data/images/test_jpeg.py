from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl.data.cache import Pixels
from tl.data.images import jpeg
from tl.data.images.decoding import decode
from tl.data.images.jpeg import as_pillow, is_plain, plain_jpeg

if not as_pillow():  # another build of libjpeg: then Pillow reads every file
    pytest.skip("torchvision's decoder rounds otherwise here", allow_module_level=True)


def picture(width: int = 37, height: int = 29, mode: str = "RGB") -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def written(image: Image.Image, **settings: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **settings)
    return file.getvalue()


def by_pillow(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_plain_files_have_the_pixels_of_pillow(
    tmp_path: Path, mode: str, progressive: bool, subsampling: int
) -> None:
    for size, quality in (((37, 29), 75), ((1, 2), 30), ((64, 64), 95)):
        content = written(
            picture(*size, mode), quality=quality, progressive=progressive, subsampling=subsampling
        )
        (path := tmp_path / "a.png").write_bytes(content)  # whatever its name
        found = plain_jpeg(path)
        assert found is not None
        assert np.array_equal(found, by_pillow(content))


def test_what_may_mean_something_else_is_left_to_pillow(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for content in (
        written(picture(), exif=turned),
        written(picture(mode="CMYK")),
        written(picture())[:200],
        b"\xff\xd8\xff",
        b"no image",
    ):
        (path := tmp_path / "a.jpg").write_bytes(content)
        assert plain_jpeg(path) is None
    (tmp_path / "a.jpg").write_bytes(written(picture(20, 10), exif=turned))
    assert decode(tmp_path / "a.jpg", (20, 10)).shape == (20, 10, 3)  # upright


def test_a_file_so_large_that_pillow_warns_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(picture(40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)
    assert is_plain(content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1199)
    assert not is_plain(content)


def test_damaged_files_are_read_as_by_pillow_or_refused_as_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, path = np.random.default_rng(1), tmp_path / "a.jpg"
    whole = written(picture(), progressive=True)
    for number in range(300):
        content = bytearray(whole)
        at = int(rng.integers(2, len(whole)))
        if number % 3 == 0:
            content[at] = int(rng.integers(0, 256))
        elif number % 3 == 1:
            del content[at:]
        else:
            del content[at : at + 4]
        path.write_bytes(content)
        found = [outcome(path)]
        with monkeypatch.context() as patched:
            patched.setattr("tl.data.images.decoding.plain_jpeg", {}.get)
            found.append(outcome(path))
        assert found[0] == found[1]


def outcome(path: Path) -> bytes | str:
    """The pixels of a file, or the name of the error."""
    try:
        return decode(path, (29, 37)).tobytes()
    except Exception as error:  # noqa: BLE001 - whatever a decoder trips on
        return type(error).__name__


def test_where_the_decoders_differ_pillow_reads_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = jpeg._decoded

    def rounded(content: bytearray) -> Pixels | None:
        found = honest(content)
        return None if found is None else 255 - found

    as_pillow.cache_clear()
    try:
        monkeypatch.setattr(jpeg, "_decoded", rounded)
        assert not as_pillow()
        (path := tmp_path / "a.jpg").write_bytes(written(picture()))
        assert plain_jpeg(path) is None
        assert np.array_equal(decode(path, (29, 37)), by_pillow(path.read_bytes()))
    finally:
        as_pillow.cache_clear()
