from __future__ import annotations

import pytest
import torch

from tl.tasks.palette import class_colours, direction_colours, palette


def test_the_palette_is_that_of_pascal_voc() -> None:
    # the first of the development kit's colour map
    wanted = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128]]
    assert palette(6).tolist() == wanted
    assert palette(9)[8].tolist() == [64, 0, 0]
    assert len({tuple(colour) for colour in palette(256).tolist()}) == 256
    with pytest.raises(ValueError, match="1 to 256 colours, not 257"):
        palette(257)


def test_what_is_missing_is_grey() -> None:
    found = class_colours(torch.tensor([[1, -1]]), 2)
    assert found[0].tolist() == [pytest.approx([128 / 255, 0, 0]), [0.5] * 3]
    assert class_colours(torch.tensor([257]), 300)[0].tolist() == found[0, 0].tolist()
    vectors = torch.tensor([[0.0, 0, 1], [torch.nan] * 3]).T.view(1, 3, 1, 2)
    assert direction_colours(vectors)[0, 0].tolist() == [[0.5, 0.5, 1], [0.5] * 3]
