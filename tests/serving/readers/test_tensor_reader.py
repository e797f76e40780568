from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tl.serving.readers import TensorReader, reader_of


def test_a_dict_of_tensors_is_one_sample_or_several() -> None:
    shapes = {"train": {"left": [3], "right": [2, 2]}}
    reader = reader_of({"shapes": shapes, "statistics": {"left": [[1.0] * 3, [2.0] * 3]}})
    rows, single = reader.spread({"left": torch.ones(5, 3), "right": torch.zeros(5, 2, 2)})
    assert (len(rows), single) == (5, False)
    _, single = reader.spread({"left": torch.ones(3), "right": torch.zeros(2, 2)})
    assert single
    found = reader.join([reader.read(row) for row in rows])
    assert isinstance(found, dict)
    assert found["left"].shape == (5, 3)
    assert torch.equal(found["left"], torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"have \[4, 5\] samples"):
        reader.spread({"left": torch.ones(5, 3), "right": torch.zeros(4, 2, 2)})
    with pytest.raises(ValueError, match="reads 'left' and 'right', got 'left'"):
        reader.spread({"left": torch.ones(5, 3)})


SCENES = {"shapes": {"train": {"": [3, 4, 6]}}, "statistics": {"": [[100.0] * 3, [50.0] * 3]}}


def test_floats_are_refused_where_bytes_were_trained_on() -> None:
    reader = reader_of(SCENES)
    bytes_ = torch.randint(0, 256, (3, 4, 6), dtype=torch.uint8)
    expected = (bytes_.float() - 100) / 50
    assert torch.equal(reader.read(bytes_), expected)
    assert torch.equal(reader.read(bytes_.float()), expected)
    with pytest.raises(ValueError, match=r"values from 0.* the model was trained on bytes"):
        reader.read(bytes_ / 255)
    with pytest.raises(ValueError, match="holds bytes"):
        reader_of({"shapes": SCENES["shapes"], "statistics": {}}).read(bytes_)


def test_pictures_for_a_network_that_was_trained_on_arrays_of_them(tmp_path: Path) -> None:
    reader = reader_of(SCENES)
    pixels = torch.randint(0, 256, (4, 6, 3), dtype=torch.uint8)
    picture = Image.fromarray(pixels.numpy())
    picture.save(tmp_path / "a.png")
    expected = reader.read(pixels.permute(2, 0, 1))
    assert reader.spread(picture) == ([picture], True)
    assert reader.spread(tmp_path) == ([tmp_path / "a.png"], False)
    for given in (picture, tmp_path / "a.png", str(tmp_path / "a.png")):
        assert torch.equal(reader.read(given), expected)
    assert reader.read(picture.resize((20, 20))).shape == (3, 4, 6)
    with pytest.raises(ValueError, match="no such file"):
        reader.read(tmp_path / "b.png")
    with pytest.raises(ValueError, match="str is not an input"):
        reader_of({"shapes": {"train": {"": [5]}}}).spread("a.png")


def test_levels_of_another_type_than_in_training_are_refused() -> None:
    record = {
        "shapes": {"train": {"": [3, 2, 2]}},
        "statistics": {"": [[1.0] * 3, [2.0] * 3]},
        "levels": {"": "uint16"},
    }
    reader = TensorReader(record)
    ones = torch.ones(3, 2, 2)
    assert not reader.read(ones.to(torch.uint16)).any()
    with pytest.raises(ValueError, match=r"holds torch\.uint8; the model was trained on uint16"):
        reader.read(ones.to(torch.uint8))
