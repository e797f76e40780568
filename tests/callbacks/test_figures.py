from __future__ import annotations

import torch

from tl.callbacks.figures import image_grid


def test_small_images_are_enlarged() -> None:
    assert image_grid(torch.zeros(10, 3, 32, 32)).shape == (3, 2 * 66 + 2, 8 * 66 + 2)
    assert image_grid(torch.zeros(2, 3, 224, 224)).shape[1] == 228
