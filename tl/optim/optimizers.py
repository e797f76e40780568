"""Optimisers as fast as the device has them."""

from __future__ import annotations

import inspect
from typing import Any

from torch.optim import Optimizer

from tl.private.torch import unscales_nothing

#: Where it pays. On the CPU the kernel is there too, but it takes gradients in another memory order
#: than their parameter's for those of other weights, without a word.
DEVICES = ("cuda",)
_KERNELS = ("fused", "foreach")


def fused(optimizer: Optimizer) -> Optimizer:
    """Build an optimiser anew with the kernel that updates all parameters at once, if it has one.

    Left as they are: optimisers that have none or have begun (Adagrad begins at once), or were
    told by `fused`, `foreach`, `differentiable` or `capturable` how to work, and parameters that
    lie where there is none or are no floating-point numbers. The arithmetic is the same but for
    rounding.

    Args:
        optimizer: A new optimiser, without state, of a run without a loss scaler.
    """
    kind = type(optimizer)
    accepted = inspect.signature(kind).parameters
    choices = [optimizer.defaults.get(name) for name in _KERNELS]
    special = [optimizer.defaults.get(name) for name in ("differentiable", "capturable")]
    if "fused" not in accepted or optimizer.state or any(c is not None for c in choices):
        return optimizer
    if any(special):
        return optimizer
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.is_floating_point() or parameter.device.type not in DEVICES:
                return optimizer
    groups = [
        {key: value for key, value in group.items() if key not in _KERNELS}
        for group in optimizer.param_groups
    ]
    kept = {name: value for name, value in optimizer.defaults.items() if name in accepted}
    built = kind(groups, **{**kept, "fused": True})
    # in a run without a loss scaler there is nothing to unscale
    unscales_nothing(built)
    return built


def keep_kernel(optimizer: Optimizer) -> None:
    """Have loaded states leave the kernel as it is: theirs may be that of another device.

    A run that was saved on a GPU and goes on on a CPU would take the fused kernel along, see
    :data:`DEVICES`; the other way round it would lose it.

    Args:
        optimizer: An optimiser with all its groups.
    """
    own = [
        {name: group[name] for name in _KERNELS if name in group}
        for group in optimizer.param_groups
    ]

    def choose(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        del optimizer
        saved = state["param_groups"]
        if len(saved) != len(own):  # torch says so
            return state
        groups = [{**group, **chosen} for group, chosen in zip(saved, own, strict=True)]
        return {**state, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(choose)
