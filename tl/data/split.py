"""Which images train and which validate: stratified, seeded, nested."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tl.data.errors import DataError, listed
from tl.data.resident import mixed_seed


def stratified_split(
    labels: Tensor,
    *,
    val_size: float,
    label_fraction: float,
    seed: int,
    classes: Sequence[str],
) -> tuple[Tensor, Tensor]:
    """Split training images into a part to train on and a part to validate on, class by class.

    Every class is put in one seeded order. Its first images validate; of the others, the first
    `label_fraction` trains. So 1 % of the labels is a part of 10 %, which is a part of 100 %, and
    the validation images are the same for every fraction.

    Args:
        labels: ``(N,)`` int64.
        val_size: Share of each class that validates, 0 or more and below 1; above 0 at least one
            image of each class does.
        label_fraction: Share of each class's other images that trains, above 0 and at most 1.
        seed: Seed of the order.
        classes: Class names, for messages.

    Returns:
        Positions that train and positions that validate, both ascending.

    Raises:
        DataError: If a class would be left without a training image.
    """
    train, val = [], []
    empty: list[str] = []
    for label, name in enumerate(classes):
        members = torch.nonzero(labels == label).flatten()
        generator = torch.Generator().manual_seed(mixed_seed("split", seed, label))
        members = members[torch.randperm(len(members), generator=generator)]
        held_out = max(round(len(members) * val_size), 1 if val_size > 0 else 0)
        kept = int((len(members) - held_out) * label_fraction + 1e-9)
        if kept == 0:
            empty.append(f"{name} ({len(members)} images)")
        val.append(members[:held_out])
        train.append(members[held_out : held_out + kept])
    if empty:
        raise DataError(
            f"`val_size={val_size}` and `label_fraction={label_fraction}` leave {len(empty)} of "
            f"{len(classes)} classes without a training image: {listed(empty)}. "
            "Lower `val_size`, raise `label_fraction`, or give more images."
        )
    return torch.cat(train).sort().values, torch.cat(val).sort().values
