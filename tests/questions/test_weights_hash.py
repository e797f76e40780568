from __future__ import annotations

import subprocess
import sys
import threading
from copy import deepcopy
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tl.questions.weights_hash import NoHashError, weights_hash


def test_another_structure_has_another_hash() -> None:
    one, other = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3, stride=2)
    other.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(one)
    assert weights_hash(one) != weights_hash(other)


class Scaled(nn.Module):
    def __init__(self, scale: Any) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs


def test_behaviour_that_is_in_no_weight_has_another_hash() -> None:
    one = Scaled(1.0)
    before = weights_hash(one)
    assert weights_hash(Scaled(2.0)) != before
    assert weights_hash(one.eval()) == before
    different: list[Any] = [
        torch.relu,
        torch.tanh,
        {"k": 1},
        {"k": 2},
        {1, 2},
        torch.ones(1),
        Tensor,
    ]
    different += [partial(torch.clamp, min=0), partial(torch.clamp, min=1), torch.zeros(1)]
    assert len({weights_hash(Scaled(value)) for value in different}) == len(different)
    hidden = [Scaled(1.0), Scaled(1.0)]
    for value, part in enumerate(hidden):
        part.register_buffer("b", torch.full((2,), float(value)), persistent=False)
    assert weights_hash(hidden[0]) != weights_hash(hidden[1])
    one.register_forward_hook(lambda *_: None)
    assert weights_hash(one) == before


class Fit(Enum):
    CROP = 1
    PAD = 2


class Option:
    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.ones(3), np.zeros(3)),
        (np.float32(1), np.float32(2)),
        (torch.float16, torch.float32),
        (Fit.CROP, Fit.PAD),
        (Option(1), Option(2)),
        ([1, np.ones(2)], [2, np.ones(2)]),
        ([nn.Linear(1, 1, bias=False)], [nn.Linear(1, 2, bias=False)]),
        (lambda x: x, lambda x: -x),
        (partial(Option, 1), partial(Option, 2)),
    ],
)
def test_attributes_of_any_kind_count(one: Any, other: Any) -> None:
    assert weights_hash(Scaled(one)) == weights_hash(Scaled(deepcopy(one)))
    assert weights_hash(Scaled(one)) != weights_hash(Scaled(other))


def test_a_part_that_knows_the_whole_is_written_once() -> None:
    part = Scaled(1.0)
    whole = nn.Sequential(part)
    part.scale = [whole]
    assert weights_hash(whole) == weights_hash(whole)


def test_what_cannot_be_written_down_is_named() -> None:
    with pytest.raises(NoHashError, match=r"^Scaled\.scale is or holds a lock, whose value cannot"):
        weights_hash(Scaled([1, threading.Lock()]))
    with pytest.raises(NoHashError, match=r"^Option\.value is or holds a generator, whose value"):
        weights_hash(Scaled(Option(n for n in range(2))))  # type: ignore[arg-type]


def test_another_version_has_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    one = nn.Linear(1, 1)
    before = weights_hash(one)
    monkeypatch.setattr("tl.questions.weights_hash.__version__", "another")
    assert weights_hash(one) != before
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", "another")
    assert weights_hash(one) != before


def test_another_process_agrees() -> None:
    code = (
        "from tests.questions.test_weights_hash import several, weights_hash\n"
        "print(weights_hash(several()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == weights_hash(several())


def several() -> nn.Module:
    torch.manual_seed(0)
    kinds = Scaled([{"a", "b", "c"}, Option(1), Fit.CROP, np.ones(2), {Fit.CROP, Fit.PAD}])
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), kinds)
