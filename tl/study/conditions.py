"""What else decides whether a run may be compared: settings, sizes of splits, its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tl.study.merging import value_at

#: Options that all rows of a comparison should share.
RESCALE = "model.init_args.rescale"
SHARED = ("model.init_args.batch_norm", RESCALE)


@dataclass(frozen=True)
class Conditions:
    """What else decides whether a run may be compared.

    Args:
        settings: Value by option of what all rows should share.
        splits: Samples in training and in validation, by source.
        cut_off: Whether it ended at its last step although it was to train until validation stops
            rising.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cut_off: bool = False


def conditions_of(results: Mapping[str, Any], configuration: Mapping[str, Any]) -> Conditions:
    """Read a run's conditions from its results and its configuration."""
    splits: dict[str, tuple[int, int]] = {}
    for source, described in (results.get("data") or {}).items():
        for sizes in described.values() if isinstance(described, Mapping) else ():
            if isinstance(sizes, Mapping) and {"train", "val"} <= {*sizes}:
                splits[source] = (sizes["train"], sizes["val"])
    callbacks = value_at(configuration, "trainer.callbacks") or []
    paths = [str(one.get("class_path")) for one in callbacks if isinstance(one, Mapping)]
    last, steps = value_at(configuration, "trainer.max_steps"), results.get("steps")
    stops = any(path.endswith("EarlyStopping") for path in paths)
    cut_off = stops and isinstance(last, int) and steps is not None and 0 < last <= steps
    settings = {key: value_at(configuration, key) for key in SHARED}
    if value_at(configuration, "model.init_args.balancer") is None:
        settings.pop(RESCALE)  # the sum has its own size
    return Conditions(settings, splits, cut_off)
