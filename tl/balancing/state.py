"""State of any balancing method in plain types: what has changed since construction."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from tl.private.torchjd import make_solver, makes_a_solver

_INTERNAL = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, str, torch.dtype)


@dataclass(frozen=True)
class Snapshot:
    """Attributes of a method right after construction."""

    plain: dict[str, Any]  # those that have a plain form, encoded
    opaque: dict[str, Any]  # all others, as they are


class NotPlainError(Exception):
    """A value has no plain form."""


def attributes(method: nn.Module) -> Iterator[tuple[nn.Module, str, str, Any]]:
    """Yield the attributes that ``nn.Module`` does not save: owner, its path, name, value."""
    for path, module in method.named_modules():
        for name, value in vars(module).items():
            if name not in _INTERNAL:
                yield module, path, name, value


def snapshot(method: nn.Module) -> Snapshot:
    """Record the attributes of a new method, to detect later what has changed."""
    kept = Snapshot({}, {})
    for _, path, name, value in attributes(method):
        try:
            kept.plain[f"{path}.{name}"] = copy.deepcopy(encoded(value, method))
        except NotPlainError:
            kept.opaque[f"{path}.{name}"] = value
    return kept


def state_of(method: nn.Module, start: Snapshot) -> dict[str, Any]:
    """Return a method's state outside parameters and buffers, as plain types and tensors.

    Unchanged attributes are left out: they are settings, which come from the configuration. Values
    without a plain form are left out with a warning, unless the method can rebuild them (NashMTL's
    solver).
    """
    state: dict[str, Any] = {}
    for owner, path, name, value in attributes(method):
        key = f"{path}.{name}"
        try:
            plain = encoded(value, method)
        except NotPlainError:
            if value is not start.opaque.get(key) and not makes_a_solver(owner):
                rank_zero_warn(
                    f"{type(owner).__name__}.{name} cannot be saved ({type(value).__name__}); a "
                    "resumed run will differ."
                )
            continue
        if key not in start.plain or not same(plain, start.plain[key]):
            state[key] = copy.deepcopy(plain)
    return state


def load_state(
    method: nn.Module, start: Snapshot, state: Mapping[str, Any], device: torch.device
) -> None:
    """Restore what :func:`state_of` returned.

    Args:
        method: The method, built from the same configuration.
        start: Its :func:`snapshot` at construction.
        state: What was saved.
        device: Device for its tensors.
    """
    for owner, path, name, _ in list(attributes(method)):
        key = f"{path}.{name}"
        if key in state:
            setattr(owner, name, decoded(state[key], method, device))
        elif key in start.plain:
            setattr(owner, name, decoded(copy.deepcopy(start.plain[key]), method, device))
    modules = dict(method.named_modules())
    known = {f"{path}.{name}" for _, path, name, _ in attributes(method)}
    for key in state.keys() - known:
        path, _, name = key.rpartition(".")
        setattr(modules[path], name, decoded(state[key], method, device))
    for module in modules.values():
        if makes_a_solver(module) and getattr(module, "step", False):
            make_solver(module)


def encoded(  # noqa: PLR0911 - a return for each kind
    value: Any,  # noqa: ANN401 - any attribute
    method: nn.Module,
) -> Any:  # noqa: ANN401
    """Return a value as plain types and tensors that load with ``weights_only=True``.

    Raises:
        NotPlainError: If it has no such form.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {"array": torch.from_numpy(value.copy())}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, list):
        return [encoded(item, method) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encoded(item, method) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encoded(item, method) for key, item in value.items()}}
    if isinstance(value, Optimizer):
        names = {id(p): name for name, p in method.named_parameters()}
        owned = [p for group in value.param_groups for p in group["params"]]
        return {
            "optimizer": type(value).__name__,
            "parameters": [names[id(p)] for p in owned],
            "state": value.state_dict(),
        }
    raise NotPlainError


def decoded(  # noqa: PLR0911 - a return for each kind
    value: Any,  # noqa: ANN401 - any attribute
    method: nn.Module,
    device: torch.device,
) -> Any:  # noqa: ANN401
    """Undo :func:`encoded`, moving tensors to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [decoded(item, method, device) for item in value]
    if not isinstance(value, dict):
        return value
    if "device" in value:
        return device
    if "array" in value:
        return value["array"].cpu().numpy().copy()
    if "tuple" in value:
        return tuple(decoded(item, method, device) for item in value["tuple"])
    if "dict" in value:
        return {key: decoded(item, method, device) for key, item in value["dict"].items()}
    parameters = dict(method.named_parameters())
    kind: type[Optimizer] = getattr(torch.optim, value["optimizer"])
    optimizer = kind([parameters[name] for name in value["parameters"]])  # type: ignore[call-arg]
    optimizer.load_state_dict(value["state"])
    return optimizer


def same(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Compare two encoded values, tensors elementwise; NaN equals NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        other = other.to(one.device)
        return bool(((one == other) | (one.isnan() & other.isnan())).all())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return bool(one == other)


def move(method: nn.Module, fn: Callable[[Tensor], Tensor]) -> None:
    """Move a method's plain tensors as ``nn.Module`` moves parameters, changing only the device.

    Args:
        method: The method.
        fn: What ``nn.Module`` applies to parameters and buffers.
    """
    for owner, _, name, value in list(attributes(method)):
        moved = _moved(value, fn)
        if moved is not value:
            setattr(owner, name, moved)


def _moved(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        return value.to(fn(value).device)
    if isinstance(value, torch.device):
        return fn(torch.empty(0, device=value)).device
    if isinstance(value, list):
        return [_moved(item, fn) for item in value]
    if isinstance(value, tuple):
        return tuple(_moved(item, fn) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, fn) for key, item in value.items()}
    if isinstance(value, Optimizer):
        for slot in value.state.values():
            for key, item in slot.items():
                if key != "step":  # Adam keeps its count on the CPU
                    slot[key] = _moved(item, fn)
    return value
