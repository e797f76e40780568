"""Optimisers as fast as the device has them."""

from __future__ import annotations

import inspect

from torch.optim import Optimizer

#: Where it pays. On the CPU the kernel is there too, but it takes gradients in another memory order
#: than their parameter's for those of other weights, without a word.
DEVICES = ("cuda",)


def fused(optimizer: Optimizer) -> Optimizer:
    """Build an optimiser anew with the kernel that updates all parameters at once, if it has one.

    Left as they are: optimisers that have none or have begun (Adagrad begins at once), or were
    told by `fused`, `foreach`, `differentiable` or `capturable` how to work, and parameters that
    lie where there is none or are no floating-point numbers. The arithmetic is the same but for
    rounding.

    Args:
        optimizer: A new optimiser, without state.
    """
    kind = type(optimizer)
    accepted = inspect.signature(kind).parameters
    choices = [optimizer.defaults.get(name) for name in ("fused", "foreach")]
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
        {key: value for key, value in group.items() if key not in ("fused", "foreach")}
        for group in optimizer.param_groups
    ]
    kept = {name: value for name, value in optimizer.defaults.items() if name in accepted}
    return kind(groups, **{**kept, "fused": True})
