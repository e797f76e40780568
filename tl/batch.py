"""Inputs of any kind: a tensor, or a dict of tensors, whose first dimension counts the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

Inputs = Tensor | Mapping[str, Tensor]
_MASK = "attention_mask"
#: Names of the inputs of a source that gives two views of each sample, each ``(N, ...)``.
VIEWS = ("view_1", "view_2")


def size_of(inputs: Inputs) -> int:
    """Return the number of samples.

    Raises:
        ValueError: If the tensors of a dict differ in length, or there are none.
    """
    if not isinstance(inputs, Mapping):
        return len(inputs)
    sizes = {name: len(part) for name, part in inputs.items()}
    if len(set(sizes.values())) != 1:
        said = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "none"
        raise ValueError(f"The inputs of a batch must have one number of samples, got {said}.")
    return next(iter(sizes.values()))


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32, which sums and logarithms need."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def on_each(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Apply a function to the tensor, or to each tensor of a dict."""
    if isinstance(inputs, Mapping):
        return {name: function(part) for name, part in inputs.items()}
    return function(inputs)


def join(parts: Sequence[Inputs]) -> Inputs:
    """Concatenate the samples of several inputs.

    Raises:
        ValueError: If they are of different kinds or shapes.
    """
    shapes = [shapes_of(part) for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"Inputs of different shapes cannot be joined: {shapes}.")
    first = parts[0]
    if isinstance(first, Mapping):
        return {name: torch.cat([dict(part)[name] for part in parts]) for name in first}
    return torch.cat(list(parts))  # type: ignore[arg-type]  # all are tensors, like the first


def views_of(inputs: Inputs) -> tuple[Tensor, Tensor] | None:
    """Return the two views of each sample, each ``(N, ...)``; ``None`` if there is one."""
    if not isinstance(inputs, Mapping) or inputs.keys() != set(VIEWS):
        return None
    return inputs[VIEWS[0]], inputs[VIEWS[1]]


def in_one_batch(inputs: Inputs) -> Inputs:
    """Return two views of each sample as one batch ``(2N, ...)``, all first views first.

    Other inputs stay as they are.
    """
    views = views_of(inputs)
    return inputs if views is None else torch.cat(views)


def differ_in_length(parts: Iterable[Inputs]) -> bool:
    """Return whether these are texts, dicts with ``attention_mask`` ``(N, L)``, of several L."""
    found = list(parts)
    masks = [part[_MASK] for part in found if isinstance(part, Mapping) and _MASK in part]
    return len(masks) == len(found) and len({mask.shape[1] for mask in masks}) > 1


def shapes_of(inputs: Inputs) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the shape of a sample by input name, ``""`` for a single tensor."""
    parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
    return tuple((name, tuple(part.shape[1:])) for name, part in sorted(parts.items()))


def said_shapes(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
    """Format the result of :func:`shapes_of` for a message."""
    return ", ".join(f"{name} {shape}".strip() for name, shape in shapes)
