from __future__ import annotations

from typing import Any

import pytest

from tl.data.images.augment import Augment
from tl.data.settings import Settings


def test_defaults() -> None:
    assert Settings().augment == Augment()
    assert (Settings().batch_size, Settings().val_size, Settings().label_fraction) == (128, 0.1, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("eval_batch_size", 0),
        ("val_size", 1.0),
        ("val_size", float("nan")),
        ("label_fraction", 0.0),
        ("num_workers", -1),
    ],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        Settings(**given)
