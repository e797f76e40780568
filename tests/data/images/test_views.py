from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomResizedCrop
from torchvision.transforms import functional as reference

from tl.data.images import views as made
from tl.data.images.views import ROWS, Views, draw_views, make_views

DRAWS = 10_000
# Kolmogorov and Smirnov: two samples of 10,000 of one distribution differ more once in 1,000
FURTHEST = 1.95 * (2 / DRAWS) ** 0.5


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, size: int = 12) -> Tensor:
    return torch.rand(n, 3, size, size, generator=seeded())


def rows(
    settings: Views, count: int = DRAWS, size: tuple[int, int] = (32, 32)
) -> dict[str, Tensor]:
    first, second = draw_views(count, settings, *size, seeded()).chunk(2)
    assert not torch.equal(first, second)
    return dict(zip(ROWS, first, strict=True))


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference of two empirical distributions."""
    places = torch.cat([a, b]).sort().values
    shares = [torch.searchsorted(x.sort().values, places, right=True) / len(x) for x in (a, b)]
    return float((shares[0] - shares[1]).abs().max())


@pytest.mark.parametrize("size", [(32, 32), (12, 60)])  # the second needs the central window
def test_windows_are_distributed_as_torchvision_s(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    crop = RandomResizedCrop(32, scale=(0.08, 1.0))
    image = torch.empty(3, *size)
    expected = torch.tensor(
        [crop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(DRAWS)]
    ).float()
    found = rows(Views(), size=size)
    for column, name in enumerate(("top", "left", "height", "width")):
        assert distance(found[name], expected[:, column]) < FURTHEST, name
    area = found["height"] * found["width"]
    assert distance(area, expected[:, 2] * expected[:, 3]) < FURTHEST
    assert float((found["top"] + found["height"]).max()) <= size[0]
    assert float((found["left"] + found["width"]).max()) <= size[1]


def test_colours_are_distributed_as_torchvision_s() -> None:
    torch.manual_seed(0)
    ranges: Any = ([0.6, 1.4], [0.7, 1.3], [0.0, 2.2], [-0.1, 0.1])
    drawn = [ColorJitter.get_params(*ranges)[1:] for _ in range(DRAWS)]
    expected = torch.tensor(drawn, dtype=torch.float32)
    settings = Views(jitter=1.0, brightness=0.4, contrast=0.3, saturation=1.2, hue=0.1)
    found = rows(settings)
    for column, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert distance(found[name], expected[:, column]) < FURTHEST, name


def test_chances_are_those_that_are_set() -> None:
    settings = Views(flip=0.3, jitter=0.6, grey=0.1, blur=(0.9, 0.2), solarise=(0.0, 0.4))
    first, second = draw_views(DRAWS, settings, 8, 8, seeded()).chunk(2)
    one, two = (dict(zip(ROWS, view, strict=True)) for view in (first, second))
    within = 4 * 0.5 / DRAWS**0.5
    for row, chance in (
        (one["mirror"], 0.3),
        (one["hue"] != 0, 0.6),
        (one["grey"], 0.1),
        (one["sigma"] > 0, 0.9),
        (two["sigma"] > 0, 0.2),
        (one["solarise"], 0.0),
        (two["solarise"], 0.4),
    ):
        assert abs(float(row.float().mean()) - chance) <= within
    changed = one["brightness"][one["hue"] == 0]
    assert torch.equal(changed, torch.ones_like(changed))  # all colours change, or none does


def test_windows_are_cut_and_enlarged_as_torchvision_does() -> None:
    batch = images(size=16)
    found = rows(Views(), len(batch), (16, 16))
    window = [found[name] for name in ("top", "left", "height", "width", "mirror")]
    cut = made.crop(batch, *window)
    for i, image in enumerate(batch):
        top, left, high, wide, mirror = (int(row[i]) for row in window)
        expected = reference.resized_crop(image, top, left, high, wide, [16, 16], antialias=True)
        expected = reference.hflip(expected) if mirror else expected
        assert torch.allclose(cut[i], expected, atol=1e-5)


def test_views_change_colours_as_torchvision_does() -> None:
    batch = images(40)
    settings = Views(crop=(1.0, 1.0), flip=0.5, solarise=(0.5, 0.5))
    draws = draw_views(len(batch), settings, 12, 12, seeded(1))
    # the whole image: what is compared are colours
    for first in (0, len(ROWS)):
        draws[first : first + 4] = torch.tensor([[0.0], [0.0], [12.0], [12.0]])
    views = make_views(batch, settings, draws)
    both = torch.cat([*draws.chunk(2)], 1)
    for i, view in enumerate(views):
        row = dict(zip(ROWS, both[:, i].tolist(), strict=True))
        expected = batch[i % len(batch)]
        expected = reference.hflip(expected) if row["mirror"] else expected
        expected = reference.adjust_brightness(expected, row["brightness"])
        expected = reference.adjust_contrast(expected, row["contrast"])
        expected = reference.adjust_saturation(expected, row["saturation"])
        expected = reference.adjust_hue(expected, row["hue"])
        expected = reference.rgb_to_grayscale(expected, 3) if row["grey"] else expected
        near = (expected - 0.5).abs() < 1e-4  # either side, by rounding
        expected = reference.solarize(expected, 0.5) if row["solarise"] else expected
        assert torch.allclose(view[~near], expected[~near], atol=1e-4)


def test_blur_is_a_gaussian_and_leaves_others_alone() -> None:
    batch = images(2, size=33)
    found = made.blur(batch, torch.tensor([1.5, 0.0]))
    expected = reference.gaussian_blur(batch[:1], [25, 25], [1.5, 1.5])
    inner = slice(8, -8)  # torchvision mirrors what lies beyond the border
    assert torch.allclose(found[:1, :, inner, inner], expected[..., inner, inner], atol=1e-5)
    assert torch.equal(found[1], batch[1])
    flat = torch.full((1, 3, 9, 9), 0.3)
    assert torch.allclose(made.blur(flat, torch.tensor([2.0])), flat)


def test_nothing_turned_on_is_the_image_twice() -> None:
    batch = images()
    off = Views(crop=(1.0, 1.0), flip=0, jitter=0, grey=0)
    draws = draw_views(len(batch), off, 12, 12, seeded())
    for first in (0, len(ROWS)):  # of the area of the image, but not of its shape
        draws[first : first + 4] = torch.tensor([[0.0], [0.0], [12.0], [12.0]])
    assert torch.allclose(make_views(batch, off, draws), torch.cat([batch, batch]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"crop": (0.0, 1.0)}, r"`views.crop` must be two fractions .* got \[0.0, 1.0\]"),
        ({"crop": (0.5,)}, r"`views.crop` must be two numbers, got \[0.5\]"),
        ({"flip": 1.5}, r"`views.flip` is a probability, from 0 to 1, got 1.5"),
        ({"blur": (0.1, -1.0)}, r"`views.blur\[1\]` is a probability, from 0 to 1, got -1.0"),
        ({"hue": 0.6}, r"`views.hue` must be from 0 to 0.5, got 0.6"),
        ({"contrast": -1.0}, r"`views.contrast` must be 0 or more, got -1.0"),
        ({"blur_sigma": (2.0, 1.0)}, r"`views.blur_sigma` .* got \[2.0, 1.0\]"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Views(**options)
