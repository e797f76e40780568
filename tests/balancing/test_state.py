"""State is what differs from construction, in plain types."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchjd.scalarization import DWA, FAMO

from tl.balancing.state import load_state, move, same, snapshot, state_of

CPU = torch.device("cpu")


class Method(nn.Module):
    """Remembers something of every kind."""

    def __init__(self, setting: float = 1.0) -> None:
        super().__init__()
        self.setting = setting
        self.count = 0
        self.history: list[Tensor] = []
        self.array = np.zeros(2, dtype=np.float32)
        self.key: tuple[Any, ...] | None = None
        self.table: dict[str, Any] = {}
        self.weight = nn.Parameter(torch.zeros(2))
        self.optimizer: torch.optim.Adam | None = None

    def live(self) -> None:
        self.count += 1
        self.history.append(torch.tensor([1.0, torch.nan]))
        self.array = self.array + 1
        self.key = (2, torch.float32, CPU)
        self.table["a"] = torch.ones(1)
        if self.optimizer is None:
            self.optimizer = torch.optim.Adam([self.weight], lr=0.1)
        self.weight.grad = torch.tensor([1.0, -2.0])
        self.optimizer.step()


def through_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_nothing_has_changed_at_first() -> None:
    method = Method()
    assert state_of(method, snapshot(method)) == {}


def test_everything_comes_back_from_a_file_and_settings_do_not() -> None:
    method, other = Method(setting=1.0), Method(setting=7.0)
    start, fresh = snapshot(method), snapshot(other)
    for _ in range(3):
        method.live()
    load_state(other, fresh, through_file(state_of(method, start)), CPU)
    other.load_state_dict(method.state_dict())
    assert other.setting == 7.0
    assert (other.count, other.key) == (3, (2, torch.float32, CPU))
    assert len(other.history) == 3
    np.testing.assert_array_equal(other.array, method.array)
    assert other.array.dtype == np.float32
    assert torch.equal(other.table["a"], torch.ones(1))
    method.live()
    other.live()  # the inner optimizer continues unchanged
    assert torch.equal(method.weight, other.weight)


def test_the_saved_state_is_a_copy() -> None:
    method = Method()
    start = snapshot(method)
    method.live()
    saved = state_of(method, start)
    kept = copy.deepcopy(saved[".history"])
    method.history[0].add_(5)
    assert same(saved[".history"], kept)


def test_loading_an_earlier_state_takes_back_what_came_since() -> None:
    method = Method()
    start = snapshot(method)
    method.live()
    load_state(method, start, {}, CPU)
    assert (method.count, method.history, method.optimizer) == (0, [], None)


def test_what_cannot_be_saved_is_said(recwarn: pytest.WarningsRecorder) -> None:
    method = Method()
    start = snapshot(method)
    method.table["f"] = print
    assert ".table" not in state_of(method, start)
    assert any("Method.table cannot be saved (dict)" in str(w.message) for w in recwarn)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1, True),
        (1, 1.0, False),
        ([1, 2], [1, 2, 3], False),
        ({"a": 1}, {"b": 1}, False),
        (torch.tensor([torch.nan]), torch.tensor([torch.nan]), True),
        (torch.tensor([torch.nan]), torch.tensor([0.0]), False),
        (torch.zeros(1), torch.zeros(1, dtype=torch.float64), False),
        (torch.zeros(1), torch.zeros(2), False),
    ],
)
def test_same(one: Any, other: Any, alike: bool) -> None:
    assert same(one, other) is alike


def test_plain_tensors_move_with_the_module_and_keep_their_type() -> None:
    """As ``.to("meta")`` moves parameters; the inner optimizer's moments come along."""
    method = DWA()
    method(torch.ones(2))
    move(method, lambda tensor: tensor.to("meta", torch.float16))
    assert method._loss_sum is not None
    assert (method._loss_sum.device.type, method._loss_sum.dtype) == ("meta", torch.float32)
    famo = FAMO(2)
    famo(torch.ones(2))
    famo.update(torch.ones(2) / 2)
    move(famo, lambda tensor: tensor.to("meta"))
    assert famo._optimizer is not None
    [slots] = famo._optimizer.state.values()
    assert slots["exp_avg"].device.type == "meta"
    assert slots["step"].device.type == "cpu"
