from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from tl.data.errors import DataError
from tl.data.images.augment import Augment, augment, draw
from tl.data.images.on_pixels import PixelTargets, fitted, moved
from tl.data.images.pipeline import Pipeline
from tl.data.images.resident import ResidentDataset
from tl.data.images.store import StoredDataset
from tl.data.settings import Settings
from tl.tasks import Classification

HEIGHT, WIDTH, COUNT = 7, 9, 64
STATISTICS = (torch.full((3,), 128.0), torch.full((3,), 64.0))


class Marks(Classification):
    on_pixels: ClassVar[bool] = True


class Pointing(Marks):
    """Arrows with an x- and a y-component."""

    def flipped(self, target: Tensor, dim: int) -> Tensor:
        signs = torch.tensor([-1.0, 1.0] if dim == -1 else [1.0, -1.0])
        return target * signs.view(2, 1, 1)


def coordinates() -> Tensor:
    """Images whose pixels say which they are: ``(N, H, W, 3)`` of image, line, column."""
    grids = torch.meshgrid(*map(torch.arange, (COUNT, HEIGHT, WIDTH)), indexing="ij")
    return torch.stack(grids, -1).to(torch.uint8)


def every_draw(settings: Augment) -> Tensor:
    return draw(COUNT, settings, HEIGHT, WIDTH, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("flip", [False, True])
def test_a_copy_of_the_image_stays_one(padding: int, flip: bool) -> None:
    settings, pixels = Augment(padding, flip), coordinates()
    draws = every_draw(settings)
    images = augment(pixels, settings, STATISTICS[0], draws)
    copy = moved(pixels.permute(0, 3, 1, 2), padding, draws)
    assert torch.equal(copy, images.permute(0, 3, 1, 2))
    assert torch.equal(moved(pixels[..., 2], padding, draws), images[..., 2])


def test_cutout_hides_pixels_and_leaves_their_targets() -> None:
    settings, pixels = Augment(padding=0, flip=False, cutout=3), coordinates()
    draws = every_draw(settings)
    target = pixels[..., 2]
    kept = PixelTargets([Marks("a", 9)])(target, HEIGHT, WIDTH, settings, draws)
    assert torch.equal(torch.as_tensor(kept), target)
    assert not torch.equal(augment(pixels, settings, STATISTICS[0], draws)[..., 2], target)


@pytest.mark.parametrize("padding", [0, 3])
def test_what_points_along_an_axis_still_does(padding: int) -> None:
    """Arrows are the slope of a picture: that of the moved picture are the moved arrows."""
    settings = Augment(padding, flip=True)
    draws = every_draw(settings)
    draws[2, ::2] = 1
    picture = torch.rand(COUNT, 2 * HEIGHT, 2 * WIDTH, generator=torch.Generator().manual_seed(1))
    inner = picture[:, :HEIGHT, :WIDTH]
    across = torch.zeros(COUNT, HEIGHT, WIDTH)
    across[..., 1:-1] = (inner[..., 2:] - inner[..., :-2]) / 2
    down = torch.zeros(COUNT, HEIGHT, WIDTH)
    down[:, 1:-1] = (inner[:, 2:] - inner[:, :-2]) / 2
    arrows = torch.stack([across, down], 1)
    found = moved(arrows, padding, draws, Pointing("a", 2).flipped)
    shown = moved(inner, padding, draws)
    sloped = (shown[..., 2:] - shown[..., :-2]) / 2
    torch.testing.assert_close(found[:, 0, :, 1:-1], sloped)
    torch.testing.assert_close(found[:, 1, 1:-1], (shown[:, 2:] - shown[:, :-2]) / 2)


def test_a_flip_negates_what_must_be_negated() -> None:
    arrows = torch.ones(2, 2, HEIGHT, WIDTH)
    draws = torch.zeros(5, 2, dtype=torch.int64)
    draws[2, 1] = 1
    found = moved(arrows, 0, draws, Pointing("a", 2).flipped)
    assert found.mean((2, 3)).tolist() == [[1, 1], [-1, 1]]


def test_only_what_lies_on_pixels_moves() -> None:
    settings = Augment(2, flip=True)
    targets: dict[str, Tensor] = {"map": coordinates()[..., 2], "label": torch.arange(COUNT)}
    tasks = [Marks("a", 9, target="map"), Classification("b", 64, target="label")]
    found = PixelTargets(tasks)(targets, HEIGHT, WIDTH, settings, every_draw(settings))
    assert isinstance(found, dict)
    assert found["label"] is targets["label"]
    assert not torch.equal(found["map"], targets["map"])
    assert not PixelTargets(tasks[1:])
    with pytest.raises(DataError, match=r"'a' lie on the pixels and are of shape \(64,\)"):
        PixelTargets(tasks)({"map": torch.arange(COUNT)}, HEIGHT, WIDTH)


@pytest.mark.parametrize("tasks", [[Marks("a", 9)], [Pointing("a", 2)]])
def test_resident_equals_streamed(tasks: list[Any]) -> None:
    settings = replace(Settings(), augment=Augment(3, flip=True, cutout=2), seed=5)
    targets = torch.rand(COUNT, 2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    data = ResidentDataset(coordinates(), {"map": targets})
    found = []
    for share in (1.0, 0.0):
        pipeline = Pipeline("a", replace(settings, resident_share=share), STATISTICS, tasks)
        stored = pipeline.stored("train", data, torch.device("cpu"))
        assert isinstance(stored, StoredDataset) is bool(share)
        positions = torch.arange(10) * 3
        batch: Any = (stored or data)[positions]
        found.append(pipeline.transform(batch, pipeline.draws(batch, 1, 2, 0)))
    for one, other in zip(*found, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    evaluated = pipeline.transform(data[positions], None)[1]
    assert torch.equal(torch.as_tensor(evaluated), targets[positions])


@pytest.mark.parametrize("how", ["nearest", "bilinear"])
def test_targets_of_another_size_are_resized_and_cut_as_images_are(
    how: Literal["nearest", "bilinear"],
) -> None:
    columns = torch.arange(12.0).expand(2, 8, 12)
    found = fitted(columns, 4, 4, how)  # the middle 8x8, halved
    assert found.shape == (2, 4, 4)
    expected = [3, 5, 7, 9] if how == "nearest" else [2.5, 4.5, 6.5, 8.5]
    assert found[0, 0, 1:3].tolist() == pytest.approx(expected[1:3], abs=0.01)
    assert torch.equal(fitted(columns, 8, 12, how), columns)


def test_nearest_keeps_values_of_any_type() -> None:
    labels = torch.tensor([[[0, 255], [7, 3]]], dtype=torch.uint8)
    found = fitted(labels, 4, 4, "nearest")
    assert found.dtype is torch.uint8
    assert found[0].tolist() == [[0, 0, 255, 255]] * 2 + [[7, 7, 3, 3]] * 2
