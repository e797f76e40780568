"""What a checkpoint keeps of the data that its weights were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tl.data.errors import DataError, listed
from tl.data.naming import composed, composed_names


@dataclass(frozen=True)
class TrainedOn:
    """One source as a checkpoint describes it: what evaluation must have the same.

    Args:
        name: Name of the source.
        kind: ``real`` or ``generated``.
        fingerprint: Hash of what was loaded to train and validate.
        classes: Class names by target, in the order of the labels.
        groups: The group of each class by name, or ``None``.
        image_size: Height and width in pixels.
        mean: Per channel, in pixel values ``(3,)``.
        std: Per channel, in pixel values ``(3,)``.
        val_size: Share of each class that validates.
        label_fraction: Share of each class's training images that trained.
        seed: Seed of the split.
        val_folder: Name of the folder that validates, or ``None``.
        test_size: Share of each class that tests, of a folder without splits; else ``None``.
    """

    name: str
    kind: str
    fingerprint: str
    classes: dict[str, tuple[str, ...]]
    groups: dict[str, str] | None
    image_size: int
    mean: Tensor
    std: Tensor
    val_size: float
    label_fraction: float
    seed: int
    val_folder: str | None
    test_size: float | None = None

    @property
    def fine(self) -> tuple[str, ...] | None:
        """Names of the finest classes, also where only their groups were trained on."""
        if "fine" in self.classes:
            return self.classes["fine"]
        return tuple(self.groups) if self.groups else None


def read_record(record: Mapping[str, Any]) -> TrainedOn | None:
    """Read the description of one source in a checkpoint.

    Args:
        record: What ``describe()`` of a data module gave.

    Returns:
        ``None`` for a checkpoint of a version that kept less.
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
        image_size=int(record["image_size"]),
        mean=torch.tensor(record["mean"], dtype=torch.float32),
        std=torch.tensor(record["std"], dtype=torch.float32),
        val_size=float(record["val_size"]),
        label_fraction=float(record["label_fraction"]),
        seed=int(record["seed"]),
        val_folder=record.get("val_folder"),
        test_size=record.get("test_size"),
    )


def sources_of(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Sort a checkpoint's description of its data by source, also that of a single one."""
    return {str(record["name"]): record} if "fingerprint" in record else dict(record)


def readable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description without what only a machine reads, such as a packed tokenizer."""
    return {
        key: readable(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if key != "packed"
    }


def groups_by_task(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the group of each class by name, for each task of a checkpoint that answers groups.

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
    """Return the classes that lie in another group, each with both; those of one side are left out.

    Args:
        there: The group of each class by name.
        here: The others.
        where: What has the others.
    """
    return [
        f"{name} {group} there, {here[name]} {where}"
        for name, group in there.items()
        if here.get(name, group) != group
    ]


def record_of(record: Mapping[str, Any], name: str, of: int = 1) -> Mapping[str, Any]:
    """Pick a source's part out of a checkpoint's description of its data.

    Args:
        record: The description of one source, or descriptions by source.
        name: Name of the source here.
        of: How many sources there are here; the only one there is that of the only one here.

    Raises:
        DataError: If the checkpoint has several sources and none of this name.
    """
    parts = sources_of(record)
    if name in parts:
        return parts[name]
    if len(parts) == of == 1:
        return next(iter(parts.values()))
    raise DataError(
        f"The checkpoint was trained on the sources {listed(sorted(parts))}, and not on {name!r}; "
        "give the sources the same names."
    )


def same_names(
    there: Sequence[str], here: Sequence[str], what: str, where: str = "the data"
) -> None:
    """Refuse class names that are not those of a checkpoint, in its order.

    Args:
        there: Those of the checkpoint.
        here: Those here.
        what: What they name, for the message.
        where: What has the others.

    Raises:
        DataError: If they differ; names both.
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
        f"{listed(list(here))} ({how}). Name them as in training."
    )
