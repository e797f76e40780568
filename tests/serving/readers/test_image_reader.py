from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tl.data.trained_on import TrainedOn, read_record
from tl.serving.readers import ImageReader


def known(size: int = 8, mean: float = 0.5, **options: Any) -> TrainedOn:
    record = {"mean": [mean] * 3, "std": [0.25] * 3, "image_size": size, **options}
    more = {"name": "a", "kind": "real", "fingerprint": "f", "val_size": 0.1, "seed": 0}
    found = read_record({**record, **more, "label_fraction": 1.0, "class_names": {"a": ["x"]}})
    assert found is not None
    return found


def test_file_picture_array_and_tensor_are_one_image(tmp_path: Path) -> None:
    reader = ImageReader(known())
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    given = [picture, pixels, tensor, tmp_path / "a.png"]
    read = reader.join([reader.read(each) for each in given])
    assert isinstance(read, torch.Tensor)
    expected = (tensor.float() - 0.5) / 0.25
    assert torch.allclose(read, expected.expand(4, 3, 8, 8), atol=1e-5)


def test_one_image_is_told_from_several(tmp_path: Path) -> None:
    reader = ImageReader(known())
    picture = np.zeros((8, 8, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert reader.spread(picture) == ([picture], True)
    samples, single = reader.spread(np.stack([picture] * 3))
    assert (len(samples), single) == (3, False)
    assert reader.spread(tmp_path) == ([tmp_path / "a.png"], False)


def test_what_is_no_image_is_refused() -> None:
    reader = ImageReader(known())
    with pytest.raises(ValueError, match=r"\(5, 8, 8\) is not an image; expected \(3, H, W\)"):
        reader.read(torch.zeros(5, 8, 8))
    with pytest.raises(ValueError, match="int is not an image; expected a path, a folder"):
        reader.read(3)


def test_readers_of_one_size_and_normalisation_read_alike() -> None:
    assert ImageReader(known()).way == ImageReader(known()).way
    assert ImageReader(known()).way != ImageReader(known(16)).way
    assert ImageReader(known()).way != ImageReader(known(mean=0.4)).way


def test_values_of_more_than_8_bits_are_read_as_in_training(tmp_path: Path) -> None:
    reader = ImageReader(known(pixel_range=[1000, 3000]))
    values = np.full((8, 8), 1400, np.uint16)
    values[:, 4:] = 2600
    Image.fromarray(values).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", values)
    tensor = torch.from_numpy(values.astype(np.int32))[None]
    files = [tmp_path / "a.png", Image.open(tmp_path / "a.png"), tmp_path / "a.npy"]
    for given in [*files, values, tensor]:
        assert np.unique(reader.read(given)).tolist() == [51, 204]
    grey = np.full((8, 8), 99, np.uint8)
    assert np.unique(reader.read(grey)).tolist() == [99]  # 8 bits stay as they are
    with pytest.raises(ValueError, match=r"float64 is ambiguous: .* 1000 became black and 3000"):
        reader.read(values / 3000)
    with pytest.raises(ValueError, match="uint16 is not an image"):
        ImageReader(known()).read(values)
    assert reader.way != ImageReader(known()).way
