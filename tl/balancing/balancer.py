"""Build a balancer for given tasks from what the user configured."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import torch
from jsonargparse.typing import register_type
from torch import Tensor, nn
from torchjd.aggregation import Aggregator, MoDoWeighting, SDMGradWeighting
from torchjd.scalarization import Scalarizer

from tl.balancing.aggregation import GradientAggregation
from tl.balancing.base import Balancer, Rescale
from tl.balancing.independent import IndependentBatches
from tl.balancing.scalarization import LossWeighting

Method = Scalarizer | Aggregator
BalancerSpec = (
    Scalarizer | Aggregator | Callable[[int], Scalarizer] | Callable[[int], Aggregator] | None
)

_FILLED = ("shape", "n_tasks")
# they read the product of the gradients of two batches, which must be independent
_SEVERAL_BATCHES = {SDMGradWeighting: "SDMGrad", MoDoWeighting: "MoDo"}


# lets YAML give torchjd's preference vectors and weights as lists
register_type(
    Tensor,
    serializer=Tensor.tolist,
    deserializer=partial(torch.tensor, dtype=torch.float32),
    deserializer_exceptions=(TypeError, ValueError, RuntimeError),
    fail_already_registered=False,
)


def make_balancer(
    given: BalancerSpec | type[Method], tasks: Sequence[str], rescale: Rescale = "none"
) -> Balancer | None:
    """Build the balancer for the given tasks.

    Args:
        given: A torchjd ``Scalarizer`` or ``Aggregator``, one of ours, or a factory: a class or a
            callable that takes the number of tasks. ``shape`` and ``n_tasks`` are filled in.
            ``None`` is the plain sum.
        tasks: Task names in their fixed order.
        rescale: Whether to scale the update to the size of the ``mean`` or the ``sum``.

    Returns:
        The balancer, ``None`` for the plain sum.

    Raises:
        ImportError: If the method needs a package that is not installed; names the install command.
        ValueError: If the method is none of these or does not fit the tasks.
    """
    if rescale not in get_args(Rescale):
        raise ValueError(
            f"`rescale` must be one of {', '.join(get_args(Rescale))}, got {rescale!r}."
        )
    if given is None:
        if rescale != "none":
            raise ValueError(
                f"`rescale={rescale!r}` needs a `balancer`; the plain sum cannot be rescaled."
            )
        return None
    method = given if isinstance(given, Scalarizer | Aggregator) else _built(given, len(tasks))
    parts = list(method.modules()) if isinstance(method, nn.Module) else []
    for weighting, reads in _SEVERAL_BATCHES.items():
        found = any(isinstance(part, weighting) for part in parts)
        if found and not isinstance(method, IndependentBatches):
            raise ValueError(
                f"{weighting.__name__} needs the gradients of independent batches in each step; "
                f"use tl.balancing.{reads}, which reads the micro-batches of a step."
            )
    if callable(fill_in := getattr(method, "fill_in", None)):
        fill_in(len(tasks))
    if isinstance(method, Scalarizer):
        return LossWeighting(method, tasks, rescale)
    if isinstance(method, Aggregator):
        return GradientAggregation(method, tasks, rescale)
    raise ValueError(
        "`balancer` must be a torchjd Scalarizer or Aggregator, or one of tl.balancing, got "
        f"{type(method).__name__}."
    )


def _built(given: object, count: int) -> object:
    """Call a class or a callable, with the number of tasks if it takes it."""
    if isinstance(given, nn.Module) or not callable(given):
        return given  # of a wrong kind
    # the command line wraps a class that it could not build in a partial: either the number of
    # tasks is missing, or the constructor refuses, and its error is raised here
    kinds = [a for a in getattr(given, "args", ()) if isinstance(a, type)]
    kind = given if isinstance(given, type) else kinds[-1] if kinds else None
    if kind is None:
        return given(count)
    settings = dict(getattr(given, "keywords", {}))
    wanted = inspect.signature(kind).parameters
    for name in _FILLED:
        if name in wanted:
            settings.setdefault(name, count)
    try:
        return kind(**settings)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}.") from error
