from __future__ import annotations

import pytest
import torch

from tl.data import CifarDataModule, CifarSubsetDataModule


def test_the_chosen_classes_in_their_order() -> None:
    options = {"images": "generated", "generated_size": 300, "val_size": 0.2}
    every = CifarDataModule("cifar100", **options)  # type: ignore[arg-type]
    some = CifarSubsetDataModule("cifar100", classes=("pear", "apple"), **options)  # type: ignore[arg-type]
    names = every.target_classes()["fine"]
    pear, apple = (every._official().names.index(name) for name in ("pear", "apple"))
    assert some.target_classes() == {"fine": (names[pear], names[apple])}
    whole, part = every.load("train"), some.load("train")
    fine = whole.targets["fine"]
    kept = ((fine == pear) | (fine == apple)).nonzero().flatten()
    assert torch.equal(part.targets["fine"], (fine[kept] == apple).long())
    assert torch.equal(part.pixels(part.index), whole.pixels(whole.index[kept]))
    some.setup("fit")
    assert some.task is not None
    assert some.task.answers == "2 classes"
    assert len(some.splits["train"]) + len(some.splits["val"]) == len(kept)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("apple", "unicorn"), "cifar100 has no class unicorn"),
        (("apple", "apple"), "must name two different classes or more"),
        ((), "must name two different classes or more"),
    ],
)
def test_mistakes_are_said(classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CifarSubsetDataModule("cifar100", classes=classes)
