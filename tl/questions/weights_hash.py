"""A hash of what networks compute, by which features are cached."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "tl")
_STATE = frozenset(vars(nn.Module()))  # hooks and modes, and what is hashed by its own name


def weights_hash(*modules: nn.Module) -> str:
    """Return a SHA-256 of what networks compute.

    It covers the structure, names, types and values of weights and buffers, attributes of each part
    (numbers, texts, functions, classes, tensors, and collections of them), and the source of
    classes outside of libraries.
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update(f"{type(module).__qualname__} {module}".encode())
        for name, part in module.named_modules():
            said = {k: _said(v) for k, v in vars(part).items() if k not in _STATE}
            known = sorted((k, v) for k, v in said.items() if v is not None)
            digest.update(f"{name} {known}".encode())
        for kind in dict.fromkeys(type(part) for part in module.modules()):
            digest.update(_source(kind).encode())
        for name, value in {**dict(module.named_buffers()), **module.state_dict()}.items():
            if isinstance(value, Tensor):
                digest.update(f"{name} {_bytes_of(value)}".encode())
    return digest.hexdigest()


def _said(value: Any) -> str | None:  # noqa: ANN401 - any attribute
    """Write an attribute; ``None`` for one whose text may differ between two processes."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Tensor):
        return _bytes_of(value)
    if isinstance(value, functools.partial):
        value = (value.func, value.args, value.keywords)
    if isinstance(value, Mapping):
        value = [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return _all_said(value)
    if isinstance(value, set | frozenset):
        found = _all_said(list(value))
        return None if found is None else str(sorted(found))
    name = getattr(value, "__qualname__", None)  # of functions and classes
    return None if name is None else f"{getattr(value, '__module__', '')}.{name}"


def _all_said(values: Sequence[Any]) -> str | None:
    found = [_said(value) for value in values]
    return None if None in found else str(found)


def _bytes_of(value: Tensor) -> str:
    flat = value.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return f"{value.dtype} {tuple(value.shape)} {digest.hexdigest()}"


def _source(kind: type) -> str:
    """Return the source of a class of somebody's own; empty where there is none to be read."""
    if kind.__module__.partition(".")[0] in _LIBRARIES:
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
