from __future__ import annotations

import pytest
import torch

from tests.small import tiny_data
from tests.text import read
from tl.data.images.augment import Normalisation
from tl.serving.raw_inputs import NormalisedParts, NormalisedPixels, raw_inputs, tokenizer_file


def test_pixels_are_normalised_as_in_training() -> None:
    mean, std = torch.tensor([120.0, 110.0, 100.0]), torch.tensor([60.0, 50.0, 40.0])
    pixels = torch.randint(0, 256, (2, 5, 4, 3), dtype=torch.uint8)
    ours = NormalisedPixels(mean, std)(pixels)
    torch.testing.assert_close(ours, Normalisation(mean, std)(pixels))
    assert ours.shape == (2, 3, 5, 4)


def test_only_what_was_bytes_is_normalised() -> None:
    normalise = NormalisedParts({"b": (torch.tensor([2.0]), torch.tensor([4.0]))})
    given = {"a": torch.ones(2, 3), "b": torch.full((2, 1, 2, 2), 10, dtype=torch.uint8)}
    found = normalise(given)
    assert isinstance(found, dict)
    assert found["a"] is given["a"]
    assert found["b"].unique().tolist() == [2.0]


def test_a_description_says_what_a_source_takes() -> None:
    data = tiny_data()
    data.setup("fit")
    raw = raw_inputs(data.describe())
    assert raw.kind == "images"
    assert raw.record() == [{"name": "pixels", "dtype": "uint8", "shape": [32, 32, 3]}]
    example = raw.example(2)
    assert isinstance(example, torch.Tensor)
    assert (example.shape, example.dtype) == ((2, 32, 32, 3), torch.uint8)
    deep = raw_inputs({**data.describe(), "pixel_range": [0.0, 4000.0]})
    assert deep.layout != raw.layout  # one tensor of bytes cannot serve both
    assert "of the range [0.0, 4000.0]" in deep.said
    texts = read()
    texts.setup("fit")
    assert raw_inputs(texts.describe()).longest == texts.max_length
    assert b'"model"' in tokenizer_file(texts.describe())
    with pytest.raises(ValueError, match="has no tokenizer"):
        tokenizer_file(data.describe())
    mixed = {"shapes": {"train": {"a": [3], "b": [1, 2]}}, "statistics": {"b": [[1.0], [2.0]]}}
    parts = raw_inputs(mixed)
    assert not parts.single
    assert [(p.name, p.dtype) for p in parts.parts] == [("a", "float32"), ("b", "uint8")]
    assert raw_inputs({}, (3, 8)).parts[0].shape == (3, 8)
    with pytest.raises(ValueError, match="does not describe its inputs"):
        raw_inputs({})
