from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tl.data.shifts import blurs
from tl.data.shifts.draws import ImageDraws


def dot(size: int = 32) -> Tensor:
    found = torch.zeros(1, size, size, 3)
    found[0, size // 2, size // 2] = 1
    return found


def test_a_gaussian_has_its_width() -> None:
    seen = blurs.gaussian_blur(dot(), 5)[0, :, :, 0]
    steps = torch.arange(32.0) - 16
    assert seen.sum() == pytest.approx(1)
    assert float((seen.sum(1) * steps.square()).sum()) == pytest.approx(1.0, abs=0.01)  # sigma 1


def test_a_disk_is_the_disk_of_the_script() -> None:
    """Radius 1: a cross of five, barely smoothed; radius 0.3: one point, smoothed."""
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    assert torch.allclose(blurs.disk(1.0, 0.2)[1:4, 1:4], cross, atol=1e-4)
    side = torch.exp(torch.tensor(-0.5 / 0.4**2))
    middle = 1 / (1 + 2 * side)
    assert blurs.disk(0.3, 0.4)[1, 1] == pytest.approx(float(middle**2))


@pytest.mark.parametrize(
    "blur", [blurs.gaussian_blur, blurs.defocus_blur, blurs.zoom_blur], ids=lambda b: b.__name__
)
def test_blurs_keep_a_flat_image(blur: Callable[[Tensor, int], Tensor]) -> None:
    for size in (8, 32):
        flat = torch.full((2, size, size + 4, 3), 0.3)
        assert torch.allclose(blur(flat, 5), flat, atol=1e-5)


def test_an_image_of_one_line_is_blurred() -> None:
    line = torch.full((2, 1, 40, 3), 0.3)
    assert torch.allclose(blurs.defocus_blur(line, 5), line, atol=1e-5)


def test_motion_smears_along_a_line_of_its_own() -> None:
    seen = blurs.motion_blur(dot().expand(2, -1, -1, -1), 5, ImageDraws([0, 1]))[..., 0]
    assert torch.allclose(seen.sum((1, 2)), torch.ones(2), atol=1e-5)
    assert not torch.equal(seen[0], seen[1])
    weights, (rows, columns) = seen[0][seen[0] > 0], seen[0].nonzero().T
    assert columns.max() == 16  # one side only, as there
    assert float(weights.max()) == seen[0, 16, 16]
    assert rows.float().sub(16).abs().max() <= columns.float().sub(16).abs().max() + 1


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_zoom_has_the_factors_of_the_script(severity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding gives ``numpy.arange(1, 1.06, 0.01)`` and ``(1, 1.11, 0.01)`` their ends."""
    zoomed: list[Tensor] = []

    def counting(part: Tensor, *given: Any, **more: Any) -> Tensor:
        zoomed.append(part)
        return real(part, *given, **more)

    real = functional.interpolate
    monkeypatch.setattr(functional, "interpolate", counting)
    blurs.zoom_blur(torch.zeros(1, 32, 32, 3), severity)
    assert len(zoomed) == len(np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01))


def test_zoom_averages_enlarged_images_about_the_centre() -> None:
    ramp = torch.linspace(0, 1, 33).expand(33, 33)[None, :, :, None].repeat(1, 1, 1, 3)
    seen = blurs.zoom_blur(ramp, 3)[0, 16, :, 0]
    assert seen[16] == pytest.approx(0.5, abs=0.02)  # it cuts whole pixels
    assert ramp[0, 16, 0, 0] < seen[0] < seen[32] < ramp[0, 16, 32, 0]


def test_a_sketch_is_white_with_dark_edges() -> None:
    square = torch.zeros(1, 16, 16, 3)
    square[:, 4:12, 4:12] = 1
    seen = blurs.sketch(square, 5)
    assert torch.equal(seen[0, 0, 0], torch.ones(3))
    assert torch.equal(seen[0, 8, 8], torch.ones(3))
    assert torch.equal(seen[0, 8, 4], torch.zeros(3))
