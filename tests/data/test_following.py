from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.transfer.adaptation.domains import domains
from tl import GeneratedDataModule, MultiTaskDataModule
from tl.data.shifts import Shift


def loaded(data: MultiTaskDataModule, stage: str = "fit") -> dict[str, Any]:
    data.setup(stage)
    return dict(data.sources)


def same_images(**options: Any) -> MultiTaskDataModule:
    """Images with labels, and the same ones under a shift without."""

    def source(**more: Any) -> GeneratedDataModule:
        return GeneratedDataModule(train_size=60, test_size=20, **more)

    odd = source(shift=Shift("contrast", 5), labels="none")
    return MultiTaskDataModule(
        sources={"odd": odd, "clean": source()},
        **{"shares": {"odd": "clean"}, "batch_size": 20, "val_size": 0.2, **options},
    )


def rows(data: Any, split: str) -> set[int]:
    return {*data.splits[split].index.tolist()}


def test_withheld_images_are_normalised_as_those_that_train_their_head() -> None:
    """By their own statistics a shift of contrast would vanish before any method adapts."""
    found = loaded(domains())
    assert all(map(torch.equal, found["odd"].statistics, found["clean"].statistics))
    assert found["odd"].describe()["mean"] == found["clean"].describe()["mean"]
    spread: dict[str, Tensor] = {}
    for name, source in loaded(same_images()).items():
        images, _ = source.transform(source.splits["val"][torch.arange(10)], None)
        spread[name] = images.std()
    assert float(spread["odd"]) < 0.8 * float(spread["clean"])


def test_a_source_with_a_head_of_its_own_keeps_its_statistics() -> None:
    def data(**options: Any) -> dict[str, Any]:
        made = same_images(**options)
        made.sources["odd"].labels = "all"
        return loaded(made)

    trained = data()
    assert not torch.equal(trained["odd"].statistics[0], trained["clean"].statistics[0])
    evaluated = data(trains={"odd": False})
    assert torch.equal(evaluated["odd"].statistics[0], evaluated["clean"].statistics[0])


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_of_the_same_images_those_validate_that_are_not_trained_on(fraction: float) -> None:
    made = same_images()
    made.sources["odd"].label_fraction = fraction
    found = loaded(made)
    assert rows(found["odd"], "val") == rows(found["clean"], "val")
    assert not rows(found["odd"], "val") & rows(found["odd"], "train")
    assert len(found["odd"].splits["train"]) == fraction * len(found["clean"].splits["train"])


def test_other_images_are_split_at_random() -> None:
    found = loaded(domains())
    assert rows(found["odd"], "val") != rows(found["clean"], "val")
    assert len(found["odd"].splits["val"]) == 12


def test_a_checkpoints_record_gives_the_same_validation_images_again() -> None:
    trained = same_images()
    loaded(trained)
    again = same_images(val_size=0.3)
    assert again.adopt(trained.describe())
    found = loaded(again, "validate")
    assert rows(found["odd"], "val") == rows(trained.sources["odd"], "val")
    assert all(map(torch.equal, found["odd"].statistics, found["clean"].statistics))


def test_the_relation_can_change(caplog: pytest.LogCaptureFixture) -> None:
    made = same_images()
    with caplog.at_level("INFO"):
        loaded(made)
    assert "tl: odd is normalised as clean, whose head it uses." in caplog.text
    made.sources["odd"].labels = "all"
    made.shares = None
    found = loaded(made)
    assert not torch.equal(found["odd"].statistics[0], found["clean"].statistics[0])
