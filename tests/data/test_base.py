from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.small import Tiny, trainer
from tl import MultiTaskModule
from tl.data import Augment, DataError, GeneratedDataModule, ImageDataModule
from tl.data.images.resident import ResidentDataset
from tl.data.split import Split
from tl.tasks import Classification, Regression, Segmentation, Task


def data(**settings: Any) -> GeneratedDataModule:
    return GeneratedDataModule(train_size=200, test_size=100, **{"batch_size": 32, **settings})


def test_settings_unset_settings_inherit_and_set_ones_stay() -> None:
    source = data(label_fraction=0.5)
    assert source.settings.eval_batch_size == 250
    source.inherit(label_fraction=0.1, eval_batch_size=7, batch_size=None)
    assert (source.settings.label_fraction, source.settings.eval_batch_size) == (0.5, 7)
    assert source.settings.batch_size == 32
    with pytest.raises(ValueError, match=r"`val_size` must be .*, got 1\.0"):
        source.inherit(val_size=1.0)


def test_the_fingerprint_tells_label_fraction_and_split_apart_but_not_batch_size() -> None:
    def fingerprint(**settings: Any) -> str:
        made = data(**settings)
        made.setup("fit")
        return made.fingerprint

    base = fingerprint()
    assert fingerprint(batch_size=7, augment=Augment(cutout=8)) == base
    others = {
        fingerprint(label_fraction=0.5),
        fingerprint(val_size=0.2),
        fingerprint(seed=1),
        fingerprint(relatedness=0.0),
    }
    assert len(others | {base}) == 5


def test_no_validation_with_a_share_of_zero() -> None:
    made = data(val_size=0.0)
    made.setup("fit")
    assert made.val_dataloader() == []
    assert len(made.splits["train"]) == 200


def test_labels_out_of_range_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = data()
    loaded = made.load("train")
    loaded.all_targets["fine"][3] = 10
    monkeypatch.setattr(made, "load", lambda _: loaded)
    said = r"train image 3 has the label 10 \(fine\), expected 0 to 9 .* so have 1 of 2\d\d images"
    with pytest.raises(DataError, match=said):
        made.setup("fit")


def other_targets(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "age": torch.rand(count, generator=generator),
        "signs": torch.randint(0, 2, (count, 4), generator=generator),
        "surface": torch.randint(0, 3, (count, 32, 32), generator=generator),
    }


OTHER: dict[str, tuple[Task, tuple[str, ...]]] = {
    "age": (Regression("age", target="age"), ()),
    "signs": (Classification("signs", 4, target="signs", multi_label=True), ("a", "b", "c", "d")),
    "surface": (Segmentation("surface", 3, target="surface"), ("wall", "floor", "sky")),
    "fine": (Classification("fine", 10, target="fine"), tuple("0123456789")),
}


class Others(GeneratedDataModule):
    """Synthetic images with targets of other kinds than classes."""

    reads: tuple[str, ...] = ()

    def load(self, split: Split) -> ResidentDataset:
        found = super().load(split)
        found.all_targets |= other_targets(len(found))
        return found

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        return {name: OTHER[name][1] for name in self.reads}

    def strata(self) -> tuple[str, tuple[str, ...]]:
        return ImageDataModule.strata(self)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(OTHER[name][0] for name in self.reads)


def others(*names: str, **settings: Any) -> Others:
    class Reading(Others):
        reads = names

    return Reading(**{"train_size": 200, "test_size": 20, "batch_size": 50, **settings})


@pytest.mark.parametrize(
    "names", [("age",), ("signs",), ("surface",), ("age", "signs", "surface"), ("age", "fine")]
)
def test_targets_of_any_kind_are_split_in_proportion_or_at_random(names: tuple[str, ...]) -> None:
    def rows(**settings: Any) -> dict[str, set[int]]:
        made = others(*names, **settings)
        made.setup("fit")
        return {split: set(part.index.tolist()) for split, part in made.splits.items()}

    found = rows()
    assert (len(found["train"]), len(found["val"])) == (180, 20)
    assert not found["train"] & found["val"]
    few = rows(label_fraction=0.1)
    assert len(few["train"]) == (10 if "fine" in names else 18)
    assert few["train"] < found["train"]
    assert few["val"] == found["val"] == rows()["val"]
    assert found["val"] != rows(seed=1)["val"]
    if "fine" in names:
        made = others(*names)
        made.setup("fit")
        assert made.splits["val"].targets["fine"].bincount().tolist() == [2] * 10


def test_targets_of_any_kind_train_and_are_described(tmp_path: Path) -> None:
    source = others("age", "signs", "fine")
    built = MultiTaskModule(Tiny(), source.tasks)
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=1)  # a part, of every class
    run.fit(built, source)
    assert {"val/age/r2", "val/signs/map", "val/fine/acc"} <= set(run.callback_metrics)
    assert source.class_names == {name: OTHER[name][1] for name in ("signs", "fine")}
    assert source.num_classes == {"signs": 4, "fine": 10}
    assert source.describe()["classes"] == {"age": 0, "signs": 4, "fine": 10}


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("signs", torch.full((200, 4), 2), "generated10: train images: .*'signs'"),
        ("surface", torch.full((200, 32, 32), 3), "generated10: train images: .*'surface'"),
        ("age", torch.rand(200, 3), "generated10: train images: .*'age'"),
    ],
)
def test_targets_of_any_kind_are_checked(
    name: str, wrong: Tensor, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = others(name)
    loaded = made.load("train")
    loaded.all_targets[name] = wrong
    monkeypatch.setattr(made, "load", lambda _: loaded)
    with pytest.raises(DataError, match=said) as error:
        made.setup("fit")
    assert "\n" not in str(error.value)
