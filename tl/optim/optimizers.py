"""The fastest optimizer implementation that the device offers."""

from __future__ import annotations

import inspect
from typing import Any

from torch.optim import Optimizer

from tl.private.torch import unscales_nothing

#: Where it pays. The CPU kernel silently mixes up weights when a gradient's memory layout
#: differs from its parameter's.
DEVICES = ("cuda",)
_KERNELS = ("fused", "foreach")


def fused(optimizer: Optimizer) -> Optimizer:
    """Rebuild an optimizer with its fused kernel, if it has one.

    An optimizer is left unchanged if it has no fused kernel, already has state (Adagrad always
    does), or sets `fused`, `foreach`, `differentiable` or `capturable`; or if a parameter is on a
    device without the kernel or is not floating-point. Results are the same up to rounding.

    Args:
        optimizer: A new optimizer, without state, in a run without a loss scaler.
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
    # without a loss scaler there is nothing to unscale
    unscales_nothing(built)
    return built


def keep_kernel(optimizer: Optimizer) -> None:
    """Keep the current kernel when a state is loaded, which may come from another device.

    A run saved on a GPU and resumed on a CPU would bring the fused kernel along (see
    :data:`DEVICES`), and vice versa lose it.

    Args:
        optimizer: An optimizer with all its groups.
    """
    own = [
        {name: group[name] for name in _KERNELS if name in group}
        for group in optimizer.param_groups
    ]

    def choose(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        del optimizer
        saved = state["param_groups"]
        if len(saved) != len(own):  # required by torch
            return state
        groups = [{**group, **chosen} for group, chosen in zip(saved, own, strict=True)]
        return {**state, "param_groups": groups}

    optimizer.register_load_state_dict_pre_hook(choose)
