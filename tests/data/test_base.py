from __future__ import annotations

from typing import Any

import pytest

from tests.data.other_targets import others
from tl.data import Augment, GeneratedDataModule


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
