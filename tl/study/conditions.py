"""What the rules for comparisons ask of a run besides its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tl.study.merging import value_at

RESCALE = "model.init_args.rescale"
_SIZES = ("images", "samples")  # what data modules call the sizes of their splits
#: Options that all rows of a comparison should share.
SHARED = ("model.init_args.batch_norm", RESCALE)


@dataclass(frozen=True)
class Conditions:
    """What a run was trained with, on how much, and how it ended.

    Args:
        settings: Value by option of what all rows should share.
        splits: Samples in training and in validation, by source.
        cut_off: Whether it reached its last step or epoch although it was to train until
            validation stops rising.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cut_off: bool = False


def conditions_of(results: Mapping[str, Any], configuration: Mapping[str, Any]) -> Conditions:
    """Read a run's conditions from its results and its configuration."""
    splits: dict[str, tuple[int, int]] = {}
    for source, described in (results.get("data") or {}).items():
        for name in _SIZES if isinstance(described, Mapping) else ():
            sizes = described.get(name)
            if isinstance(sizes, Mapping):
                train, val = sizes.get("train"), sizes.get("val")
                if isinstance(train, int) and isinstance(val, int):
                    splits[source] = train, val
    callbacks = value_at(configuration, "trainer.callbacks") or []
    paths = [str(one.get("class_path")) for one in callbacks if isinstance(one, Mapping)]
    cut_off = any(path.endswith("EarlyStopping") for path in paths) and any(
        isinstance(last := value_at(configuration, f"trainer.max_{unit}"), int)
        and 0 < last <= (results.get(unit) or 0)
        for unit in ("steps", "epochs")
    )
    given = {key: value_at(configuration, key) for key in SHARED}
    if value_at(configuration, "model.init_args.balancer") is None:
        given.pop(RESCALE)  # the sum has its own size
    settings = {key: value for key, value in given.items() if value is not None}
    return Conditions(settings, splits, cut_off)
