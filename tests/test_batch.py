from __future__ import annotations

import pytest
import torch

from tl.batch import (
    VIEWS,
    at_least_float32,
    in_one_batch,
    join,
    on_each,
    said_shapes,
    shapes_of,
    size_of,
)

IDS = {"ids": torch.zeros(4, 12), "mask": torch.ones(4, 12)}


def test_samples_are_counted_and_not_keys() -> None:
    assert size_of(torch.zeros(5, 2)) == 5
    assert size_of(IDS) == 4
    with pytest.raises(ValueError, match="one number of samples, got a 2, b 3"):
        size_of({"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(ValueError, match="got none"):
        size_of({})


def test_inputs_of_one_shape_are_joined() -> None:
    rows = join([torch.zeros(2, 3), torch.ones(1, 3)])
    assert isinstance(rows, torch.Tensor)
    assert rows.sum(1).tolist() == [0, 0, 3]
    both = join([IDS, on_each(lambda part: part[:2], IDS)])
    assert isinstance(both, dict)
    assert {name: part.shape for name, part in both.items()} == {"ids": (6, 12), "mask": (6, 12)}
    with pytest.raises(ValueError, match="Inputs of different shapes"):
        join([torch.zeros(2, 3), torch.zeros(2, 4)])
    with pytest.raises(ValueError, match="Inputs of different shapes"):
        join([torch.zeros(2, 12), IDS])


def test_shapes_are_those_of_a_sample() -> None:
    assert said_shapes(shapes_of(IDS)) == "ids (12,), mask (12,)"
    assert said_shapes(shapes_of(torch.zeros(4, 3, 8, 8))) == "(3, 8, 8)"


def test_two_views_are_one_batch() -> None:
    first, second = torch.zeros(2, 3), torch.ones(2, 3)
    both = in_one_batch(dict(zip(VIEWS, (first, second), strict=True)))
    assert isinstance(both, torch.Tensor)
    assert torch.equal(both, torch.cat([first, second]))
    assert in_one_batch(first) is first


def test_half_precision_becomes_single_and_double_stays() -> None:
    for given, wanted in (("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")):
        found = at_least_float32(torch.ones(2, dtype=getattr(torch, given)))
        assert found.dtype == getattr(torch, wanted)
