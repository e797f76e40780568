from __future__ import annotations

from typing import Any

import pytest
import torch

from tl.data.synthetic.drawing import draw_images
from tl.data.synthetic.vocabulary import drawn_classes

LABELS = torch.arange(40) % 10


def test_the_seed_decides_every_pixel() -> None:
    first = draw_images(LABELS, 10, seed=3)
    torch.rand(7)
    assert torch.equal(draw_images(LABELS, 10, seed=3), first)
    other = draw_images(LABELS, 10, seed=4)
    assert not (other == first).flatten(1).all(1).any()


def test_pixels_stay_what_they_were() -> None:
    # results on drawn images are only comparable as long as the same seed gives the same images
    images = draw_images(torch.arange(100), 100, seed=0).long()
    assert images.shape == (100, 32, 32, 3)
    weights = torch.arange(1, images.numel() + 1).view_as(images)
    assert int((images * weights).sum()) == 5_825_122_693_221


def test_an_image_is_independent_of_the_others_of_the_call_and_of_the_global_state() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = draw_images(LABELS, 10, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    for i in (0, 17, 39):
        assert torch.equal(draw_images(LABELS[i : i + 1], 10, seed=0, start=i), whole[i : i + 1])
    assert torch.equal(draw_images(LABELS[11:23], 10, seed=0, start=11), whole[11:23])


def test_calls_beyond_one_batch_of_pixels_equal_single_ones() -> None:
    labels = torch.arange(300) % 10  # 256 images of 32x32 are drawn at a time
    whole = draw_images(labels, 10, seed=0)
    assert torch.equal(whole[255:258], draw_images(labels[255:258], 10, seed=0, start=255))


def test_relatedness_leaves_the_100_classes_alone() -> None:
    assert drawn_classes(100, 0.0) == drawn_classes(100, 1.0)
    labels = torch.arange(20)
    assert torch.equal(
        draw_images(labels, 100, seed=0, relatedness=0.0), draw_images(labels, 100, seed=0)
    )


def test_classes_of_one_index_differ_only_in_the_object() -> None:
    # the nuisance is a function of the index: corners, where no object reaches, stay the same
    pictures = [draw_images(torch.tensor([label]), 10, seed=0)[0] for label in range(10)]
    for other in pictures[1:]:
        assert not torch.equal(other, pictures[0])
        assert torch.equal(other[0, 0], pictures[0][0, 0])


@pytest.mark.parametrize("size", [16, 48])
def test_any_size_from_16(size: int) -> None:
    images = draw_images(LABELS, 10, seed=0, size=size)
    assert images.shape == (40, size, size, 3)
    assert images.float().std((1, 2, 3)).min() > 5  # a picture, not a grey square


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([10])}, r"must be in \[0, 10\), got values from 10 to 10"),
        ({"labels": torch.tensor([1.0])}, "must be int64"),
        ({"num_classes": 20}, "must be 10 or 100, got 20"),
        ({"relatedness": 1.1}, r"must be in \[0, 1\], got 1.1"),
        ({"seed": -1}, "`seed` and `start` must be in"),
        ({"size": 8}, "at least 16 pixels, got 8"),
    ],
)
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_images(**{"labels": LABELS, "num_classes": 10, "seed": 0, **change})


def test_a_linear_model_on_pixels_does_poorly() -> None:
    labels = torch.arange(2500) % 10
    pixels = draw_images(labels, 10, seed=0).flatten(1).float() / 255
    pixels -= pixels[:2000].mean(0)
    train, test = pixels[:2000], pixels[2000:]
    onehot = torch.eye(10)[labels[:2000]] - 0.1
    accuracies = []
    kernel = train @ train.T
    for strength in (1.0, 100.0, 10000.0):  # the dual form of ridge regression
        dual = torch.linalg.solve(kernel + strength * torch.eye(2000), onehot)
        guess = (test @ (train.T @ dual)).argmax(1)
        accuracies.append((guess == labels[2000:]).float().mean().item())
    assert max(accuracies) < 0.4
    # and the test can see what there is: it fits what it was trained on, with little penalty
    fitted = (kernel @ torch.linalg.solve(kernel + torch.eye(2000), onehot)).argmax(1)
    assert (fitted == labels[:2000]).float().mean() > 0.9
