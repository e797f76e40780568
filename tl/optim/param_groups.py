"""Named optimizer groups: one per stage with weight decay, and one without."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tl.backbones.base import stages_of
from tl.backbones.streams import beside_heads, mixing_parts


def named_groups(backbone: nn.Module, heads: nn.Module) -> list[dict[str, Any]]:
    """Sort all parameters into optimizer groups by stage, from the stem to the heads.

    Biases and the scales and shifts of normalisation layers (every parameter of fewer than two
    dimensions) have their own groups, ``<stage>_no_decay``, with weight decay 0: decaying them
    hurts (He et al., 2019, "Bag of Tricks", section 3.1). So have weights that combine streams, for
    which 0 is not a neutral value. Every parameter is in a group from the
    start, trainable or not, so that freezing never changes the optimizer.

    Args:
        backbone: The shared network.
        heads: The tasks' heads.

    Returns:
        Groups with ``name`` and ``params``, the ``_no_decay`` ones with ``weight_decay`` 0.

    Raises:
        ValueError: If a parameter is in two stages or in no stage.
    """
    beside = beside_heads(backbone)
    stages: dict[str, Iterable[nn.Module]] = {**stages_of(backbone), "head": [heads, *beside]}
    mixing = {id(p) for part in mixing_parts(backbone) for p in part.parameters()}
    groups: list[dict[str, Any]] = []
    placed: set[int] = set()
    for stage, modules in stages.items():
        parameters = [p for module in modules for p in module.parameters()]
        if any(id(p) in placed for p in parameters):
            raise ValueError(f"Stage {stage!r} holds a parameter that an earlier stage holds too.")
        placed |= {id(p) for p in parameters}
        decay = [p for p in parameters if p.ndim > 1 and id(p) not in mixing]
        rest = [p for p in parameters if p.ndim <= 1 or id(p) in mixing]
        if decay:
            groups.append({"name": stage, "params": decay})
        if rest:
            groups.append({"name": f"{stage}_no_decay", "params": rest, "weight_decay": 0.0})
    everything = [*backbone.named_parameters(), *heads.named_parameters()]
    if missing := [name for name, p in everything if id(p) not in placed]:
        raise ValueError(f"`stages()` of the backbone leaves out {', '.join(missing[:5])}.")
    return groups


def stage_of(group: Mapping[str, Any]) -> str:
    """Return the stage of an optimizer group."""
    return str(group["name"]).removesuffix("_no_decay")


def scale_learning_rates(optimizer: Optimizer, scales: Mapping[str, float]) -> None:
    """Scale each stage's learning rate, before a schedule is created.

    The rates are written into the groups' ``lr``, which is what optimizers, schedules and logs
    read; torch ignores any other field, such as timm's ``lr_scale``.

    Args:
        optimizer: The optimizer over named groups; changed in place.
        scales: Fraction of the learning rate by stage; other groups keep theirs.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * scales.get(stage_of(group), 1.0)


def keep_learning_rates(optimizer: Optimizer, scales: Mapping[str, float], schedule: str) -> None:
    """Scale each stage's learning rate after a schedule was created, unless it already is scaled.

    ``OneCycleLR`` overwrites the groups' learning rates with its own range, which is then scaled.

    Args:
        optimizer: The optimizer with a schedule; changed in place.
        scales: Fraction of the learning rate by stage.
        schedule: Name of the schedule, for the message.

    Raises:
        ValueError: If the schedule has set one learning rate for groups that should differ.
    """
    groups = [group for group in optimizer.param_groups if stage_of(group) in scales]
    if set(scales.values()) == {1.0}:
        return
    for group in groups:
        if {"max_lr", "min_lr", "initial_lr"} <= group.keys():
            for key in ("max_lr", "min_lr", "initial_lr", "lr"):
                group[key] = group[key] * scales[stage_of(group)]
    per_share = [group["lr"] / scales[stage_of(group)] for group in groups]
    if not all(math.isclose(rate, per_share[-1], rel_tol=1e-6) for rate in per_share):
        raise ValueError(
            f"{schedule} sets one range of learning rates for all stages, but the strategy needs "
            "one for each; choose a schedule that scales them, such as WarmupCosine or OneCycleLR."
        )
