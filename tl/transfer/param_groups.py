"""Optimiser groups with names: one per stage, and one per stage for what must not decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from tl.backbones.base import stages_of


def named_groups(backbone: nn.Module, heads: nn.Module) -> list[dict[str, Any]]:
    """Sort all parameters into optimiser groups by stage, from the stem to the heads.

    Biases and the scales and shifts of normalisation layers (every parameter of fewer than two
    dimensions) stand in groups of their own, ``<stage>_no_decay``, with weight decay 0: decaying
    them hurts (He et al., 2019, "Bag of Tricks", section 3.1). Every parameter is in a group from
    the beginning, whether it trains or not, so that freezing never changes the optimiser.

    Args:
        backbone: The shared network.
        heads: The tasks' heads.

    Returns:
        Groups with ``name`` and ``params``, the ``_no_decay`` ones with ``weight_decay`` 0.

    Raises:
        ValueError: If a parameter is in two stages or in none.
    """
    stages: dict[str, Iterable[nn.Module]] = {**stages_of(backbone), "head": [heads]}
    groups: list[dict[str, Any]] = []
    placed: set[int] = set()
    for stage, modules in stages.items():
        parameters = [p for module in modules for p in module.parameters()]
        if any(id(p) in placed for p in parameters):
            raise ValueError(f"Stage {stage!r} holds a parameter that an earlier stage has too.")
        placed |= {id(p) for p in parameters}
        decay = [p for p in parameters if p.ndim > 1]
        rest = [p for p in parameters if p.ndim <= 1]
        if decay:
            groups.append({"name": stage, "params": decay})
        if rest:
            groups.append({"name": f"{stage}_no_decay", "params": rest, "weight_decay": 0.0})
    everything = [*backbone.named_parameters(), *heads.named_parameters()]
    if missing := [name for name, p in everything if id(p) not in placed]:
        raise ValueError(f"`stages()` of the backbone leaves out {', '.join(missing[:5])}.")
    return groups
