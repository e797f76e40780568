from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tl.data.images.augment import Augment, Normalisation, augment, draw


def augmented(batch: Tensor, settings: Augment, fill: Tensor, seed: int = 0) -> Tensor:
    """Augment ``(N, 3, H, W)`` with numbers drawn from a seed."""
    n, _, height, width = batch.shape
    draws = draw(n, settings, height, width, torch.Generator().manual_seed(seed))
    rows = batch.permute(0, 2, 3, 1).contiguous()
    return augment(rows, settings, fill, draws).permute(0, 3, 1, 2)


def images(n: int = 6, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator)


def reference_windows(image: Tensor, pad: int) -> list[Tensor]:
    """All reflect-padded crops of an image and their mirror images, by torch's own padding."""
    _, h, w = image.shape
    padded = torch.nn.functional.pad(image[None].float(), (pad,) * 4, mode="reflect")[0]
    crops = [
        padded[:, y : y + h, x : x + w] for y in range(2 * pad + 1) for x in range(2 * pad + 1)
    ]
    return crops + [crop.flip(2) for crop in crops]


def test_every_result_is_a_reflect_padded_crop_or_its_mirror_image() -> None:
    batch = images(40)
    out = augmented(batch, Augment(padding=2), torch.zeros(3), 1)
    chosen = []
    for before, after in zip(batch, out, strict=True):
        matches = [
            i for i, w in enumerate(reference_windows(before, 2)) if torch.equal(w, after.float())
        ]
        assert matches
        chosen.append(matches[0])
    assert len(set(chosen)) > 15  # each image draws its own
    assert any(c >= 25 for c in chosen)
    assert any(c < 25 for c in chosen)


def test_mirror_of_the_window_not_of_the_padding() -> None:
    batch = images(30)
    out = augmented(batch, Augment(padding=0), torch.zeros(3), 0)
    same = [torch.equal(a, b) for a, b in zip(batch, out, strict=True)]
    flipped = [torch.equal(a.flip(2), b) for a, b in zip(batch, out, strict=True)]
    assert all(s or f for s, f in zip(same, flipped, strict=True))
    assert any(same)
    assert any(flipped)


def test_off_is_the_identity() -> None:
    batch = images()
    out = augmented(batch, Augment(padding=0, flip=False), torch.zeros(3))
    assert torch.equal(out, batch)


def test_cutout_fills_a_square_with_the_given_colour() -> None:
    batch = images(20) // 2  # no pixel is 200
    fill = torch.tensor([200.0, 201.0, 202.0])
    out = augmented(batch, Augment(padding=0, flip=False, cutout=4), fill, 0)
    hole = (out == fill.to(torch.uint8).view(1, 3, 1, 1)).all(1)
    assert torch.equal(out.permute(0, 2, 3, 1)[~hole], batch.permute(0, 2, 3, 1)[~hole])
    sizes = hole.sum((1, 2))
    assert sizes.max() == 16  # whole squares
    assert sizes.min() >= 4  # cut off at a corner at most


def test_is_a_function_of_the_generator_and_leaves_the_global_one_alone() -> None:
    state = torch.get_rng_state()
    settings = Augment(padding=2, cutout=3)
    one, two = (augmented(images(), settings, torch.zeros(3), 7) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(state, torch.get_rng_state())


def test_float_images_are_treated_like_bytes() -> None:
    settings = Augment(padding=2, cutout=3)
    both = [
        augmented(batch, settings, torch.full((3,), 9.0), 3)
        for batch in (images(), images().float())
    ]
    assert torch.equal(both[0].float(), both[1])


def test_normalise_equals_the_formula_and_is_channels_last() -> None:
    mean, std = torch.tensor([100.0, 110.0, 120.0]), torch.tensor([50.0, 60.0, 70.0])
    out = Normalisation(mean, std)(images().permute(0, 2, 3, 1).contiguous())
    wanted = (images().float() - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    torch.testing.assert_close(out, wanted)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"augment.padding.*-1"):
        Augment(padding=-1)
    with pytest.raises(ValueError, match=r"augment.cutout.*-1"):
        Augment(cutout=-1)


def test_padding_as_large_as_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller than the image, got 8 for 8x8"):
        augmented(images(), Augment(padding=8), torch.zeros(3))
