from __future__ import annotations

import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl.questions.weights_hash import weights_hash


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


def test_behaviour_that_is_in_no_weight_has_another_hash(tmp_path: Path) -> None:
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
    found = []
    for sign in "+-":
        code = f"from torch import nn\nclass Own(nn.Module):\n    forward = lambda s, x: {sign}x\n"
        (tmp_path / f"own_{ord(sign)}.py").write_text(code)
        spec = spec_from_file_location(f"own_{ord(sign)}", tmp_path / f"own_{ord(sign)}.py")
        assert spec is not None
        assert spec.loader is not None
        own = module_from_spec(spec)
        sys.modules[spec.name] = own
        spec.loader.exec_module(own)
        found.append(weights_hash(own.Own()))
        del sys.modules[spec.name]
    assert found[0] != found[1]
