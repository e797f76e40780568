"""Private names of torchjd, seen in 0.18.0; `tests/private` finds those that are gone."""

from __future__ import annotations

from torch import nn


def makes_a_solver(method: nn.Module) -> bool:
    """Return whether a method makes its solver in step 0 only, and again when asked (NashMTL)."""
    return callable(getattr(method, "_init_optim_problem", None))


def make_solver(method: nn.Module) -> None:
    """Make the solver of a method that has one."""
    method._init_optim_problem()  # type: ignore[operator]
