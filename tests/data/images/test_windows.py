from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tl.data.images.windows import Windows, reflected


def pixels(n: int = 5, height: int = 6, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_every_window_is_that_of_the_padded_image(padding: int, flip: bool) -> None:
    images = pixels()
    windows = Windows(images, padding, flip=flip)
    planes = images.permute(0, 3, 1, 2).float()
    padded = functional.pad(planes, (padding,) * 4, mode="reflect").byte().permute(0, 2, 3, 1)
    rows = torch.tensor([4, 0, 3])
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            for mirror in range(1 + flip):
                where = [torch.full_like(rows, value) for value in (top, left, mirror)]
                # the mirror image is cropped, so that both lie in the same place
                source = padded[rows].flip(2) if mirror else padded[rows]
                wanted = source[:, top : top + 6, left : left + 7]
                assert torch.equal(windows.cut(rows, *where), wanted)


def test_images_as_they_are() -> None:
    images = pixels()
    rows = torch.tensor([2, 2, 0])
    assert torch.equal(Windows(images, 3, flip=True).plain(rows), images[rows])


def test_no_images_give_no_windows() -> None:
    none = torch.tensor([], dtype=torch.int64)
    assert Windows(pixels(0), 2, flip=True).plain(none).shape == (0, 6, 7, 3)


def test_reflection_leaves_out_the_border() -> None:
    assert reflected(torch.arange(-4, 8), 4).tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]
    assert reflected(torch.arange(-2, 3), 1).tolist() == [0] * 5
