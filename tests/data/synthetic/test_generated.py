from __future__ import annotations

import pytest
import torch

from tl.data import GeneratedDataModule


def loaded(classes: int = 10, **settings: object) -> GeneratedDataModule:
    data = GeneratedDataModule(classes=classes, train_size=200, test_size=100, **settings)  # type: ignore[arg-type]
    data.setup("fit")
    data.setup("test")
    return data


def test_sizes_and_labels() -> None:
    data = loaded(100, targets="both")
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 100, "val": 100, "test": 100}
    assert data.splits["test"].targets["fine"].bincount().tolist() == [1] * 100
    assert [*data.num_classes.items()] == [
        ("generated100_fine", 100),
        ("generated100_coarse", 20),
    ]


def test_splits_show_other_images() -> None:
    data = loaded()
    train, test = (
        data.splits["train"].pixels(torch.arange(100)),
        data.splits["test"].pixels(torch.arange(100)),
    )
    assert not (train == test).flatten(1).all(1).any()


def test_pixels_depend_on_the_draw_seed_and_the_order_on_the_seed() -> None:
    base = loaded()
    assert loaded().fingerprint == base.fingerprint
    assert loaded(draw_seed=1).fingerprint != base.fingerprint
    other = loaded(seed=1)
    assert torch.equal(
        other.splits["test"].pixels(torch.arange(9)), base.splits["test"].pixels(torch.arange(9))
    )
    assert other.splits["train"].index.tolist() != base.splits["train"].index.tolist()


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="at least the number of classes, 100, got 50"):
        GeneratedDataModule(classes=100, train_size=50)
