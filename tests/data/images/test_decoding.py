from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tl.data.images.decoding import decode, open_image, pixels_of, raster_formats, sides

SIZE = 16


def grey(path: Path, **settings: Any) -> list[int]:
    """Lowest and highest value of the decoded pixels, whose channels are equal."""
    pixels = decode(path, SIZE, **settings)
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[..., :1]).all()
    return [int(pixels.min()), int(pixels.max())]


def saved(path: Path, low: float, high: float, kind: type, **settings: Any) -> Path:
    """Left half of one value, right half of another."""
    values: NDArray[Any] = np.full((SIZE, SIZE), low, kind)
    values[:, SIZE // 2 :] = high
    Image.fromarray(values).save(path, **settings)
    return path


def test_no_reader_starts_a_program_or_gives_no_pixels() -> None:
    formats = raster_formats()
    assert not {"EPS", "WMF", "PDF", "MPEG", "GRIB", "BUFR", "HDF5"} & set(formats)
    assert {"PNG", "JPEG", "TIFF", "WEBP", "JPEG2000", "TGA", "SGI", "QOI"} <= set(formats)
    assert formats.index("TGA") > formats.index("WEBP")  # it has no signature


def test_postscript_is_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "a.eps")
    with pytest.raises(UnidentifiedImageError):
        open_image(tmp_path / "a.eps")


@pytest.mark.parametrize(
    ("name", "low", "high", "kind", "expected"),
    [
        ("a.tif", 0.2, 0.7, np.float32, [51, 178]),
        ("a.tif", 40, 200, np.float32, [40, 200]),
        ("a.pfm", 0.2, 0.7, np.float32, [51, 178]),
        ("a.tif", 40, 200, np.int32, [40, 200]),
        ("a.tif", 0, 65535, np.uint16, [0, 255]),
        ("a.png", 257 * 30, 257 * 99, np.uint16, [30, 99]),
        ("a.pgm", 257 * 30, 257 * 99, np.uint16, [30, 99]),
        ("a.jp2", 257 * 30, 257 * 99, np.uint16, [30, 99]),
    ],
)
def test_deep_grey_is_scaled(
    tmp_path: Path, name: str, low: float, high: float, kind: type, expected: list[int]
) -> None:
    assert grey(saved(tmp_path / name, low, high, kind)) == expected


@pytest.mark.parametrize(
    ("low", "high", "kind", "said"),
    [
        (0.2, 1.3, np.float32, "floating-point values 0.2 to 1.3; .*pixel_range"),
        (-0.5, 0.5, np.float32, "floating-point values -0.5 to 0.5"),
        (0, float("nan"), np.float32, "not finite"),
        (0, 70000, np.int32, "32-bit values 0 to 70000"),
        (0, 1, np.int32, "32-bit values 0 to 1"),
        (700, 2900, np.uint16, r"16-bit values 700 to 2900; .*\[0, 4095\]"),
    ],
)
def test_values_without_a_stated_meaning_are_refused(
    tmp_path: Path, low: float, high: float, kind: type, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        decode(saved(tmp_path / "a.tif", low, high, kind), SIZE)


@pytest.mark.parametrize(
    ("low", "high", "kind", "pixel_range"),
    [
        (819, 3276, np.uint16, (0, 4095)),
        (-1 + 0.4, -1 + 1.6, np.float32, (-1, 1)),
        (1020, 1080, np.int32, (1000, 1100)),
    ],
)
def test_the_range_of_pixels_is_obeyed(
    tmp_path: Path, low: float, high: float, kind: type, pixel_range: tuple[float, float]
) -> None:
    path = saved(tmp_path / "a.tif", low, high, kind)
    assert grey(path, pixel_range=pixel_range) == [51, 204]
    deep = saved(tmp_path / "b.tif", 51, 204, np.uint8)  # 8 bits stay as they are
    assert grey(deep, pixel_range=pixel_range) == [51, 204]


def test_a_dark_image_of_16_bits_is_read_when_so_said(tmp_path: Path) -> None:
    assert grey(saved(tmp_path / "a.png", 0, 2570, np.uint16), pixel_range=(0, 65535)) == [0, 10]
    assert grey(saved(tmp_path / "b.png", 0, 0, np.uint16)) == [0, 0]


def test_a_tiff_tells_its_range(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", 819, 3276, np.uint16, tiffinfo={281: 4095})
    assert grey(path) == [51, 204]
    white_is_zero = saved(tmp_path / "b.tif", 257 * 40, 257 * 200, np.uint16)
    entry = struct.pack("<HHI", 262, 3, 1)
    content = white_is_zero.read_bytes().replace(entry + b"\1\0", entry + b"\0\0")
    white_is_zero.write_bytes(content)
    assert grey(white_is_zero) == [55, 215]


def colour16(path: Path, value: int) -> Path:
    """A PNG of 16 bits per channel in one grey, which Pillow does not write itself."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    row = b"\0" + struct.pack(">H", value) * 3 * SIZE
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", SIZE, SIZE, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row * SIZE))
        + chunk(b"IEND", b"")
    )
    return path


def test_16_bit_colour_is_read_where_8_bits_suffice(tmp_path: Path) -> None:
    assert grey(colour16(tmp_path / "a.png", 257 * 99)) == [99, 99]
    dark = colour16(tmp_path / "b.png", 3000)
    with pytest.raises(ValueError, match="16-bit colour"):
        decode(dark, SIZE)
    assert grey(dark, pixel_range=(0, 65535)) == [11, 11]
    with pytest.raises(ValueError, match="16-bit colour"):
        decode(dark, SIZE, pixel_range=(0, 4095))


@pytest.mark.parametrize(("mode", "extension"), [("RGBA", "png"), ("LA", "png"), ("RGBA", "gif")])
def test_transparency_is_composed_on_white(tmp_path: Path, mode: str, extension: str) -> None:
    image = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, SIZE // 2, SIZE))
    image.convert(mode).save(tmp_path / f"a.{extension}")
    pixels = decode(tmp_path / f"a.{extension}", SIZE)
    assert (pixels[:, : SIZE // 2] == 0).all()
    assert (pixels[:, SIZE // 2 :] == 255).all()


@pytest.mark.parametrize(("mode", "clear"), [("L", 0), ("RGB", (0, 0, 0)), ("I;16", 0)])
def test_a_transparent_colour_is_composed_on_white(tmp_path: Path, mode: str, clear: Any) -> None:
    image = Image.new(mode, (SIZE, SIZE), 0)
    image.paste(Image.new(mode, (8, SIZE), 51400 if mode == "I;16" else "#c8c8c8"), (0, 0))
    image.save(tmp_path / "a.png", transparency=clear)
    pixels = decode(tmp_path / "a.png", SIZE)
    assert (pixels[:, :8] == 200).all()
    assert (pixels[:, 8:] == 255).all()


@pytest.mark.parametrize(("mode", "extension"), [("LAB", "tif"), ("CMYK", "tif"), ("YCbCr", "tif")])
def test_other_colour_spaces_become_rgb(tmp_path: Path, mode: str, extension: str) -> None:
    white = (255, 128, 128) if mode != "CMYK" else (0, 0, 0, 0)
    Image.new(mode, (SIZE, SIZE), white).save(tmp_path / f"a.{extension}")
    assert decode(tmp_path / f"a.{extension}", SIZE).min() > 250


def test_the_first_picture_of_an_animation_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (SIZE, SIZE), (level,) * 3) for level in (40, 200)]
    for name in ("a.gif", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert grey(tmp_path / name) == [40, 40]


def test_the_preview_in_a_raw_file_is_not_the_photograph(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", 9, 90, np.uint8)
    with pytest.raises(ValueError, match="raw file"):
        decode(path.rename(tmp_path / "a.NEF"), SIZE)


def test_height_and_width_may_differ(tmp_path: Path) -> None:
    assert (sides(3), sides((2, 5))) == ((3, 3), (2, 5))
    values = np.zeros((8, 24, 3), np.uint8)
    values[:, 12:] = 200  # both halves keep their half where sides are cut off
    Image.fromarray(values).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", (4, 8))
    assert pixels.shape == (4, 8, 3)
    assert pixels[:, [0, -1], 0].tolist() == [[0, 200]] * 4


def test_an_image_in_memory_is_read_as_its_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", 819, 3276, np.uint16)
    with Image.open(path) as image:
        found = pixels_of(image, SIZE, (0, 4095))
        assert np.array_equal(found, decode(path, SIZE, (0, 4095)))
        with pytest.raises(ValueError, match="more than 8 bits per channel"):
            pixels_of(image, SIZE)
