from __future__ import annotations

import pytest
import torch

from tl.serving.readers import TensorReader, reader_of


def test_nothing_known_reads_tensors() -> None:
    reader = reader_of({})
    assert isinstance(reader, TensorReader)
    rows, single = reader.spread(torch.zeros(4, 3))
    assert len(rows) == 4
    assert not single


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
