"""A table of what trains when and how, shown at the start of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from tl.optim.param_groups import stage_of
from tl.private.torch import BatchNorm
from tl.report.frame import aligned
from tl.transfer.freezing import Strategy

_TITLES = ("group", "parameters", "trains from epoch", "lr", "weight decay", "batch norm")


def strategy_table(
    strategy: Strategy,
    groups: Sequence[Mapping[str, Any]],
    stages: Mapping[str, Sequence[nn.Module]],
    untrained: Iterable[nn.Parameter] = (),
) -> str:
    """Return a row per optimizer group: parameters, first epoch, rate, decay, batch norm.

    The learning rate is the base rate of the schedule, or its maximum if it defines one.

    Args:
        strategy: What trains when.
        groups: The optimizer's named groups; groups outside all stages train from the first epoch.
        stages: Modules by stage.
        untrained: Parameters that never train, such as weights beside LoRA adapters; groups count
            only the others.
    """
    left_out = {id(parameter) for parameter in untrained}
    firsts = strategy.first_epochs(list(stages))
    rows = [_TITLES]
    for group in groups:
        stage = stage_of(group)
        numbers = [p.numel() for p in group["params"] if id(p) not in left_out]
        first = firsts.get(stage, 0) if numbers else None
        rate = group.get("max_lr", group.get("initial_lr", group["lr"]))
        rows.append(
            (
                str(group["name"]),
                f"{sum(numbers):,}",
                "never" if first is None else str(first),
                f"{rate:.3g}",
                f"{group.get('weight_decay', 0.0):.3g}",
                _batch_norm(strategy, firsts.get(stage, 0), stages.get(stage, ())),
            )
        )
    return "\n".join([type(strategy).__name__, *aligned(rows)])


def _batch_norm(strategy: Strategy, first: int | None, modules: Sequence[nn.Module]) -> str:
    """Describe a stage's batch norm, and from which epoch on; ``-`` if it has none."""
    if not any(isinstance(layer, BatchNorm) for module in modules for layer in module.modules()):
        return "-"
    if strategy.bn != "train" or first == 0:
        return strategy.bn
    return "frozen" if first is None else f"frozen, train from {first}"
