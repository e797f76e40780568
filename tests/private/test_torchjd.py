"""Private names of torchjd that resuming relies on."""

from __future__ import annotations

from typing import cast

import pytest
from torch import nn
from torchjd.aggregation import UPGrad

from tests.private.names import find
from tl.private.torchjd import make_solver, makes_a_solver


def test_a_solver_can_be_made_again() -> None:
    pytest.importorskip("cvxpy", reason="NashMTL's solver is an extra")
    from torchjd.aggregation import NashMTL  # noqa: PLC0415 - needs the solver

    aggregator = NashMTL(n_tasks=2)
    find(aggregator, "weighting._init_optim_problem", "torchjd")
    method = cast("nn.Module", aggregator.weighting)
    find(method, "step", "torchjd")
    before = set(vars(method))
    assert makes_a_solver(method)
    make_solver(method)
    assert set(vars(method)) > before


def test_most_methods_have_none() -> None:
    pytest.importorskip("quadprog", reason="UPGrad's solver is an extra")
    assert not makes_a_solver(UPGrad())
