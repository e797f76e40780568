"""A recorded step: its batch, its gradients, and what it leaves as it was."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.recorders import Reexecution
from tests.small import Tiny
from tl import Classification, MultiTaskModule
from tl.modules.step_graph import StepGraph, form_of, tensors_of


def module() -> MultiTaskModule:
    torch.manual_seed(0)
    tasks = [Classification("a", 3, source="x"), Classification("b", 4, source="y")]
    return MultiTaskModule(Tiny(), tasks)


def batch(seed: int = 0, rows: int = 4) -> dict[str, Any]:
    drawn = torch.Generator().manual_seed(seed)
    return {
        "x": (torch.randn(rows, 3, 8, 8, generator=drawn), torch.arange(rows) % 3),
        "y": (torch.randn(rows, 3, 8, 8, generator=drawn), torch.arange(rows) % 4),
    }


def test_a_recording_changes_nothing() -> None:
    ours = module()
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    numbers = (torch.get_rng_state(), random.getstate(), repr(np.random.get_state()))  # noqa: NPY002
    given = batch()
    StepGraph(ours, given, Reexecution())
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    assert all(p.grad is None for p in ours.parameters())
    assert torch.equal(torch.get_rng_state(), numbers[0])
    assert (random.getstate(), repr(np.random.get_state())) == numbers[1:]  # noqa: NPY002
    assert all(map(torch.equal, tensors_of(given), tensors_of(batch())))


def test_losses_and_gradients_are_those_of_the_batch() -> None:
    ours = module()
    graph = StepGraph(ours, batch(0), Reexecution())
    reference = module()
    for seed in (1, 2):
        losses, outputs, sums = graph.run(batch(seed))
        expected, seen = reference.task_losses(batch(seed), smooth=True)
        assert list(losses) == ["a", "b"]
        assert all(torch.equal(losses[name], loss) for name, loss in expected.items())
        for name, pair in seen.items():
            assert all(map(torch.equal, outputs[name], pair))
        wanted = reference.training_log.sums_of(expected, seen)
        assert all(torch.equal(sums[name], row) for name, row in wanted.items())
        for found in (losses, expected):
            torch.autograd.backward(0.3 * found["a"] + found["b"])
    # the second gradients were added to the first
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_a_loss_that_is_left_out_gives_no_gradient() -> None:
    ours = module()
    graph = StepGraph(ours, batch(), Reexecution())
    losses, _, _ = graph.run(batch())
    torch.autograd.backward(losses["a"])
    gradients = [p.grad for p in ours.heads["b"].parameters()]
    assert all(g is None or not g.any() for g in gradients)
    assert all(p.grad is not None and p.grad.any() for p in ours.heads["a"].parameters())


def test_a_backward_pass_of_all_losses_keeps_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled networks reuse memory in the backward pass, and refuse a second one."""
    kept: list[bool] = []
    original: Any = torch.autograd.grad

    def watched(*given: Any, **settings: Any) -> Any:
        kept.append(settings["retain_graph"])
        return original(*given, **settings)

    monkeypatch.setattr(torch.autograd, "grad", watched)
    StepGraph(module(), batch(), Reexecution())
    assert kept == [False, False]  # warming up, and recorded


class Scaled(nn.Module):
    """Gives gradients of another layout than its weights."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3))

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = images.mean((2, 3)) @ self.weight.t()
        return found


def test_gradients_have_the_layout_of_their_parameters() -> None:
    tasks = [Classification("a", 3, source="x"), Classification("b", 4, source="y")]
    ours = MultiTaskModule(Scaled(), tasks)
    graph = StepGraph(ours, batch(), Reexecution())
    losses, _, _ = graph.run(batch())
    torch.autograd.backward(list(losses.values()))
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in ours.parameters())


@pytest.mark.parametrize(
    "other",
    [
        batch(rows=5),
        {"x": batch()["x"]},
        {"x": batch()["x"], "y": None},
        {**batch(), "x": (batch()["x"][0].double(), batch()["x"][1])},
        {**batch(), "x": (batch()["x"][0].to(memory_format=torch.channels_last), batch()["x"][1])},
    ],
)
def test_forms_differ(other: Any) -> None:
    assert form_of(batch(0)) == form_of(batch(1))
    assert form_of(other) != form_of(batch())


def test_what_is_not_known_has_a_form_of_its_own() -> None:
    part = np.zeros(2)
    assert form_of([torch.zeros(1), "name", None]) == form_of([torch.ones(1), "name", None])
    assert form_of([part]) != form_of([part])
