from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tl.data import DataError
from tl.data.dense.reading import MapReader, image_size, read_image, read_map, read_sample
from tl.tasks import BinaryMap, Depth, Normals, Segmentation

CLASSES = MapReader("kinds", Segmentation("a", 3), void=255)


def png(path: Path, values: Any, mode: str | None = None) -> Path:
    picture = Image.fromarray(np.asarray(values))
    (picture.convert(mode) if mode else picture).save(path)
    return path


def npy(path: Path, values: Any) -> Path:
    np.save(path, np.asarray(values))
    return path


def grey(values: Any) -> NDArray[np.uint8]:
    return np.asarray(values, np.uint8)


def test_classes_of_a_png_with_a_void_value(tmp_path: Path) -> None:
    found = CLASSES.read(png(tmp_path / "a.png", grey([[0, 1], [2, 255]])))
    assert found.tolist() == [[0, 1], [2, -1]]
    assert found.dtype == torch.int8


def test_classes_of_an_array_with_minus_one(tmp_path: Path) -> None:
    given = npy(tmp_path / "a.npy", [[0.0, -1.0], [2.0, np.nan]])
    assert CLASSES.read(given).tolist() == [[0, -1], [2, -1]]
    many = MapReader("kinds", Segmentation("a", 200))
    assert many.read(npy(tmp_path / "b.npy", [[199]])).dtype == torch.int16


def test_depth_of_16_bits_in_millimetres(tmp_path: Path) -> None:
    reader = MapReader("depth", Depth("a"), void=0, scale=0.001)
    found = reader.read(png(tmp_path / "a.png", np.asarray([[1500, 0], [40000, 1]], np.uint16)))
    wanted = torch.tensor([[[1.5, torch.nan], [40.0, 0.001]]])
    torch.testing.assert_close(found, wanted, equal_nan=True)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (1, 2, 3)])
def test_depth_of_an_array_of_any_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = np.arange(1.0, 7).reshape(shape)
    found = MapReader("depth", Depth("a")).read(npy(tmp_path / "a.npy", values))
    assert found.tolist() == [[[1, 2, 3], [4, 5, 6]]]


def test_normals_of_either_order_of_channels_with_void_vectors(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 3), np.float32)
    values[..., 2] = 1
    values[0, 1] = 0
    reader = MapReader("normals", Normals("a"), void=0)
    one = reader.read(npy(tmp_path / "a.npy", values))
    other = reader.read(npy(tmp_path / "b.npy", np.moveaxis(values, -1, 0)))
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert one[:, 1, 1].tolist() == [0, 0, 1]
    assert one.isnan().sum() == 3


def test_a_normal_whose_parts_sum_to_zero_is_known(tmp_path: Path) -> None:
    """The published codes take it for a missing one."""
    half = np.sqrt(0.5)
    path = npy(tmp_path / "a.npy", [[[half, -half, 0.0]]])
    assert not MapReader("normals", Normals("a"), void=0).read(path).isnan().any()


def test_resized_normals_are_brought_to_length_one(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 3))
    values[..., 0] = 0.6
    values[0, 0] = 0
    path = npy(tmp_path / "a.npy", values)
    found = MapReader("normals", Normals("a"), void=0, resized=True).read(path)
    assert found[:, 1, 1].tolist() == [1, 0, 0]
    assert found[:, 0, 0].isnan().all()
    with pytest.raises(ValueError, match="another length than 1"):
        MapReader("normals", Normals("a"), void=0).read(path)
    with pytest.raises(ValueError, match="another length than 1"):
        MapReader("n", Normals("a"), resized=True).read(npy(path, np.full((2, 2, 3), 127.0)))


@pytest.mark.parametrize(
    ("values", "void", "wanted"),
    [
        ([[0, 1]], None, [[0, 1]]),
        ([[0, 255]], None, [[0, 1]]),
        ([[0, 255]], 255, [[0, -1]]),
        ([[0, 255, 128]], 128, [[0, 1, -1]]),
    ],
)
def test_yes_is_1_or_255(
    tmp_path: Path, values: list[list[int]], void: float | None, wanted: list[list[int]]
) -> None:
    reader = MapReader("edges", BinaryMap("a"), void=void)
    assert reader.read(png(tmp_path / "a.png", grey(values)))[0].tolist() == wanted


def test_a_mask_of_one_bit_is_one(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", grey([[0, 255]]), "1")
    assert MapReader("edges", BinaryMap("a")).read(path)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("reader", "values", "said"),
    [
        (CLASSES, grey([[0, 1], [2, 7]]), r"above the last class \(7\) at row 1 and column 1"),
        (MapReader("e", BinaryMap("a")), grey([[1, 255]]), r"neither 0 nor 1 \(255\)"),
        (MapReader("depth", Depth("a")), np.asarray([[1.0, -2.5]]), r"below 0 \(-2.5\) at row 0"),
        (MapReader("depth", Depth("a")), np.asarray([[np.inf]]), r"infinite \(inf\)"),
        (
            MapReader("depth", Depth("a")),
            np.asarray([[0.0]]),
            r"name it: `void: \{depth: \.\.\.\}`",
        ),
        (
            MapReader("depth", Depth("a")),
            grey([[9]]),
            r"unit is not known.*scale: \{depth: 0.001\}",
        ),
        (MapReader("n", Normals("a")), np.full((2, 2, 3), 0.9), "vector of another length than 1"),
        (MapReader("n", Normals("a")), np.ones((2, 2)), r"of shape \(2, 2\); expected normals"),
        (
            MapReader("depth", Depth("a")),
            np.ones((4, 4, 3)),
            r"of shape \(4, 4, 3\); exp",
        ),
        (MapReader("depth", Depth("a")), np.asarray([["x"]]), "expected numbers"),
    ],
)
def test_a_wrong_map_is_refused_with_its_value_and_place(
    tmp_path: Path, reader: MapReader, values: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        reader.read(npy(tmp_path / "a.npy", values))


@pytest.mark.parametrize(
    ("mode", "said"), [("P", "has a palette"), ("RGB", "has the channels RGB"), ("LA", "LA")]
)
def test_colours_are_no_indices(tmp_path: Path, mode: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_map(png(tmp_path / "a.png", grey([[0, 1], [2, 1]]), mode))


def test_the_advice_for_a_palette_works(tmp_path: Path) -> None:
    picture = Image.fromarray(grey([[0, 1], [2, 1]]), "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png")
    path = tmp_path / "b.png"
    Image.fromarray(np.asarray(Image.open(tmp_path / "a.png"))).save(path)
    assert CLASSES.read(path).tolist() == [[0, 1], [2, 1]]


def test_images_of_arrays_equal_those_of_files(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    wanted = read_image(png(tmp_path / "a.png", pixels), (6, 9))
    for given in (pixels, pixels / 255, np.moveaxis(pixels / 255, -1, 0)):
        path = npy(tmp_path / "a.npy", given)
        assert np.array_equal(read_image(path, (6, 9)), wanted)
        assert image_size(path) == (6, 9)
        assert np.array_equal(read_image(path, (3, 3)), read_image(tmp_path / "a.png", (3, 3)))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.full((4, 4, 3), 200.0), "values from 200 to 200; expected 0 to 1"),
        (np.full((4, 4, 3), np.nan), "expected 0 to 1"),
        (np.zeros((4, 4)), r"of shape \(4, 4\); expected \(H, W, 3\)"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_image(npy(tmp_path / "a.npy", given), (4, 4))


@pytest.mark.parametrize("shape", [(8, 9), (4, 8, 9), (2, 3, 8, 9)])
def test_an_array_of_no_image_is_named_with_its_shape(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    with pytest.raises(DataError) as error:
        image_size(tmp_path / "a.npy")
    assert str(error.value) == f"{tmp_path}/a.npy is of shape {shape}; expected (H, W, 3)."


def test_the_size_of_a_photo_on_its_side_is_that_upright(tmp_path: Path) -> None:
    picture, exif = Image.new("RGB", (8, 5)), Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == (8, 5)
    assert read_image(tmp_path / "a.jpg", (8, 5)).shape == (8, 5, 3)


def test_a_map_of_another_size_than_its_image_is_refused(tmp_path: Path) -> None:
    image = png(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    kinds = png(tmp_path / "b.png", grey(np.zeros((4, 5))))
    with pytest.raises(DataError, match=r"b\.png has 4x5 pixels, its image a\.png 4x6"):
        read_sample(image, {"kinds": kinds}, {"kinds": CLASSES}, (4, 6), resize=False)


def test_images_and_maps_are_brought_to_one_size(tmp_path: Path) -> None:
    left = np.zeros((8, 16), np.uint8)
    left[:, :8] = 1
    image = png(tmp_path / "a.png", np.stack([left * 200] * 3, -1))
    kinds = png(tmp_path / "b.png", left)
    given = (image, {"kinds": kinds}, {"kinds": CLASSES}, (4, 6))
    pixels, maps = read_sample(*given, resize=True)
    assert pixels.shape == (4, 6, 3)
    assert maps["kinds"].tolist() == [[1, 1, 1, 0, 0, 0]] * 4
    assert pixels[:, 0, 0].tolist() == [200] * 4
    with pytest.raises(DataError, match=r"a\.png has 8x16 pixels, the first training image 4x6"):
        read_sample(*given, resize=False)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    image = png(tmp_path / "a.png", np.zeros((4, 6, 3), np.uint8))
    broken = tmp_path / "b.npy"
    broken.write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match=r"b\.npy"):
        read_sample(image, {"kinds": broken}, {"kinds": CLASSES}, (4, 6), resize=False)
    with pytest.raises(DataError, match=r"c\.png"):
        image_size(tmp_path / "c.png")
