"""The split into training and validation samples: seeded, nested, stratified by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.images.resident import mixed_seed
from tl.data.loaders import class_by_class

Split = Literal["train", "val", "test"]


def stratified_split(
    labels: Tensor,
    *,
    val_size: float,
    label_fraction: float,
    seed: int,
    classes: Sequence[str],
    held_out: str = "val_size",
    partial: bool = False,
) -> tuple[Tensor, Tensor]:
    """Split images into training and validation parts, class by class.

    Every class has one seeded order. Its first images are for validation; of the others, the first
    `label_fraction` are for training. So 1 % of the labels is a subset of 10 %, and the validation
    images are the same for every fraction.

    Args:
        labels: ``(N,)`` int64.
        val_size: Fraction of each class for validation, 0 or more and below 1; if above 0, at least
            one image of each class.
        label_fraction: Fraction of each class's other images for training, above 0 and at most 1.
        seed: Seed of the order.
        classes: Class names, for messages.
        held_out: Name of the option behind `val_size`, for messages.
        partial: Leave out classes without images.

    Returns:
        Training positions and validation positions, both ascending.

    Raises:
        DataError: If a class would be left without a training image.
    """
    train, val = [], []
    by_share: list[str] = []
    by_fraction: list[str] = []
    for label, name in enumerate(classes):
        members = torch.nonzero(labels == label).flatten()
        if partial and not len(members):
            continue
        generator = torch.Generator().manual_seed(mixed_seed("split", seed, label))
        members = members[torch.randperm(len(members), generator=generator)]
        first = max(round(len(members) * val_size), 1 if val_size > 0 else 0)
        kept = int((len(members) - first) * label_fraction + 1e-9)
        if kept == 0:
            left = by_fraction if len(members) > first else by_share
            left.append(f"{name} ({counted(len(members), 'image')})")
        val.append(members[:first])
        train.append(members[first : first + kept])
    of = f"of {len(classes)} classes without a training image"
    counts = [int((labels == label).sum()) for label in range(len(classes))]
    if by_share:
        raise DataError(
            f"`{held_out}={val_size}` leaves {len(by_share)} {of}: {listed(by_share)}. "
            f"{_advice(min(counts), label_fraction, held_out)}, or remove the class."
        )
    if by_fraction:
        rest = min(n - h for n, h in zip(counts, map(len, val), strict=True))
        raise DataError(
            f"`label_fraction={label_fraction}` of the images that `{held_out}={val_size}` leaves "
            "gives "
            f"{len(by_fraction)} {of}: {listed(by_fraction)}. Set `label_fraction` to "
            f"{_fraction(rest):g} or more, give more images, or remove the class."
        )
    return torch.cat(train).sort().values, torch.cat(val).sort().values


def random_split(
    count: int,
    val_size: float,
    label_fraction: float,
    seed: int,
    what: str = "images",
    labels: Tensor | None = None,
    held_out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Split samples in one seeded order, of which the first validate.

    Args:
        count: Number of samples.
        val_size: Fraction for validation, 0 or more and below 1; if above 0, at least one sample.
        label_fraction: Fraction of the others for training; small ones are subsets of larger ones.
        seed: Seed of the order.
        what: What the samples are, for messages.
        labels: Class numbers ``(N,)`` whose proportions all parts of the order keep.
        held_out: Positions that validate, in place of the first `val_size`.

    Returns:
        Training positions and validation positions, both ascending.

    Raises:
        DataError: If no training sample would be left.
    """
    generator = torch.Generator().manual_seed(mixed_seed("split", seed))
    order = torch.randperm(count, generator=generator)
    if labels is not None:
        order = order[class_by_class(labels[order])]
    held = math.ceil(count * val_size)
    if held_out is not None:
        order = torch.cat([held_out, order[~torch.isin(order, held_out)]])
        held = len(held_out)
    kept = int((count - held) * label_fraction + 1e-9)
    if not kept:
        share = f" and `label_fraction={label_fraction:g}`" if label_fraction < 1 else ""
        raise DataError(
            f"`val_size={val_size:g}`{share} leave{'' if share else 's'} none of {count} {what} to "
            "train."
        )
    return order[held : held + kept].sort().values, order[:held].sort().values


def _advice(smallest: int, label_fraction: float, option: str) -> str:
    """Return advice that leaves the smallest class a training image."""
    if smallest == 0:
        return "Give more images"
    if smallest > 1:
        return f"Lower `{option}`, give more images"
    raised = f" and `label_fraction` to {_fraction(1):g}" if label_fraction < 1 else ""
    return (
        f"Above 0 it uses at least one image of each class: set `{option}` to 0{raised}, give "
        "more images"
    )


def _fraction(images: int) -> float:
    """Return the smallest label fraction that keeps an image, rounded up to four digits."""
    return math.ceil(1e4 / images) / 1e4
