"""A checkpoint's record of its training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tl.data.errors import DataError, listed
from tl.data.images.decoding import PixelRange, Size
from tl.data.naming import composed, composed_names


@dataclass(frozen=True)
class TrainedOn:
    """One source as recorded in a checkpoint, which evaluation must match."""

    name: str
    kind: str  # real or generated
    fingerprint: str  # of what was loaded to train and validate
    classes: dict[str, tuple[str, ...]]  # names by target, in the order of the labels
    groups: dict[str, str] | None  # by class
    image_size: Size
    mean: Tensor  # per channel, in pixel values (3,); as std
    std: Tensor
    val_size: float
    label_fraction: float
    seed: int
    val_folder: str | None  # its name
    test_size: float | None = None  # of each class in a folder without splits
    labels: str = "all"  # or none, if training saw none
    pixel_range: PixelRange | None = None  # see `tl.data.images.decoding.decode`

    @property
    def unshifted(self) -> str:
        """The fingerprint without the shift in training."""
        return self.fingerprint.partition("~")[0]

    @property
    def shift(self) -> str:
        """Name and severity of the shift in training; empty without one."""
        return self.fingerprint.partition("~")[2]

    @property
    def fine(self) -> tuple[str, ...] | None:
        """Names of the finest classes, even if only their groups were trained on."""
        if "fine" in self.classes:
            return self.classes["fine"]
        return tuple(self.groups) if self.groups else None


def read_record(record: Mapping[str, Any]) -> TrainedOn | None:
    """Read the description of one source in a checkpoint.

    Args:
        record: The result of a data module's ``describe()``.

    Returns:
        ``None`` for a checkpoint of a version that recorded less.
    """
    if not record.get("class_names") or not record.get("mean") or not record.get("std"):
        return None
    groups = record.get("groups")
    return TrainedOn(
        name=str(record["name"]),
        kind=str(record["kind"]),
        fingerprint=str(record["fingerprint"]),
        classes={str(t): composed_names(names) for t, names in record["class_names"].items()},
        groups=None if groups is None else _groups(groups),
        image_size=_size(record["image_size"]),
        mean=torch.tensor(record["mean"], dtype=torch.float32),
        std=torch.tensor(record["std"], dtype=torch.float32),
        val_size=float(record["val_size"]),
        label_fraction=float(record["label_fraction"]),
        seed=int(record["seed"]),
        val_folder=record.get("val_folder"),
        test_size=record.get("test_size"),
        labels=str(record.get("labels", "all")),
        pixel_range=_range(record.get("pixel_range")),
    )


def _size(given: int | Sequence[int]) -> Size:
    if not isinstance(given, Sequence):
        return int(given)
    height, width = given
    return int(height), int(width)


def _range(given: Sequence[float] | None) -> PixelRange | None:
    if given is None:
        return None
    low, high = given
    return float(low), float(high)


def sources_of(record: object) -> dict[str, Mapping[str, Any]]:
    """Return a checkpoint's data description by source, also for a single source; maybe none.

    A user's own data module may describe itself by any plain types: these are of one source.
    """
    if not isinstance(record, Mapping):
        return {}
    by_source = all(isinstance(part, Mapping) for part in record.values())
    if by_source and "fingerprint" not in record:
        return dict(record)
    return {str(record.get("name", "data")): record}


def readable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description without what only a machine reads, such as a packed tokenizer."""
    return {
        key: readable(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if key != "packed"
    }


def groups_by_task(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the group of each class by name, for each of a checkpoint's tasks on groups.

    Args:
        record: The description of one source, or descriptions by source.
    """
    found = {}
    for source, part in sources_of(record).items():
        names, groups = part.get("class_names"), part.get("groups")
        if names and groups and "coarse" in names:
            found[source if len(names) == 1 else f"{source}_coarse"] = _groups(groups)
    return found


def _groups(groups: Mapping[str, str]) -> dict[str, str]:
    return {composed(str(name)): composed(str(group)) for name, group in groups.items()}


def regrouped(there: Mapping[str, str], here: Mapping[str, str], where: str = "here") -> list[str]:
    """Return the classes that have different groups on both sides, with both groups.

    Args:
        there: The group of each class by name.
        here: The same, for comparison.
        where: What `here` describes.
    """
    return [
        f"{name} {group} there, {here[name]} {where}"
        for name, group in there.items()
        if here.get(name, group) != group
    ]


def record_of(record: Mapping[str, Any], name: str, of: int = 1) -> Mapping[str, Any]:
    """Return a source's part of a checkpoint's data description.

    Args:
        record: The description of one source, or descriptions by source.
        name: Name of the source here.
        of: Number of sources here; if both sides have one source, they are matched.

    Raises:
        DataError: If the checkpoint has several sources and none of this name.
    """
    parts = sources_of(record)
    if name in parts:
        return parts[name]
    if len(parts) == of == 1:
        return next(iter(parts.values()))
    raise DataError(
        f"The checkpoint was trained on the sources {listed(sorted(parts))}, not on {name!r}; "
        "give the sources the same names."
    )


def same_data(name: str, then: str, now: str, settings: str) -> None:
    """Refuse to resume training on other data.

    Args:
        name: Name of the data module's source.
        then: Fingerprint in the checkpoint.
        now: Fingerprint here.
        settings: What must be the same, for the message.

    Raises:
        DataError: If the fingerprints differ.
    """
    if then != now:
        raise DataError(
            f"{name}: the run to resume was trained on {then}, this is {now}. Resume with the same "
            f"{settings}, or start a new run from its weights with `init_from`."
        )


def same_names(
    there: Sequence[str], here: Sequence[str], what: str, where: str = "the data"
) -> None:
    """Refuse class names that differ from a checkpoint's, in content or order.

    Args:
        there: Names in the checkpoint.
        here: Names here.
        what: What the names denote, for the message.
        where: What has the names `here`.

    Raises:
        DataError: If they differ; lists both.
    """
    there, here = composed_names(there), composed_names(here)
    if there == here:
        return
    gone, new = [n for n in there if n not in here], [n for n in here if n not in there]
    how = (
        f"only there: {listed(gone) or 'none'}; only here: {listed(new) or 'none'}"
        if gone or new
        else "the same in another order"
    )
    raise DataError(
        f"The checkpoint was trained on the {what} {listed(list(there))}, {where} has "
        f"{listed(list(here))} ({how}). Use the names from training."
    )
