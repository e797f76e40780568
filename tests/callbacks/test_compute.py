from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tl import Classification, MultiTaskModule
from tl.callbacks.compute import flops_per_image


class One(nn.Module):
    """One convolution, whose operations are counted by hand."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 4)``."""
        features: Tensor = self.norm(self.conv(images)).mean((2, 3))
        return features


def batch(a: int, b: int, size: int = 8) -> dict[str, tuple[Tensor, Tensor]]:
    def part(n: int) -> tuple[Tensor, Tensor]:
        return torch.zeros(n, 3, size, size), torch.zeros(n, dtype=torch.int64)

    return {"a": part(a), "b": part(b)}


def model(**settings: str) -> MultiTaskModule:
    tasks = (Classification("a", 10, source="a"), Classification("b", 5, source="b"))
    return MultiTaskModule(One(), tasks, **settings)  # type: ignore[arg-type]


def test_operations_are_those_counted_by_hand() -> None:
    # a convolution is 2 * 3*3*3 * 4 * 8*8 operations; its weights need as many, images no gradient
    convolution = 2 * 2 * 27 * 4 * 64
    heads = {"a": 6 * 4 * 10, "b": 6 * 4 * 5}
    for joint in ("joint", "per_source", "per_source_statistics"):
        found = flops_per_image(model(batch_norm=joint), batch(3, 1))
        assert found == convolution + (3 * heads["a"] + heads["b"]) / 4


def test_frozen_layers_need_no_gradients_and_larger_images_more_operations() -> None:
    frozen = model()
    frozen.backbone.requires_grad_(False)
    # nor do features: a head takes its product and the gradient of its weights
    assert flops_per_image(frozen, batch(1, 0)) == 2 * 27 * 4 * 64 + 4 * 4 * 10
    assert flops_per_image(frozen, batch(1, 0, size=16)) == 4 * 2 * 27 * 4 * 64 + 4 * 4 * 10


class OnCpu(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's metaclass
    """Notes what is computed or copied on the CPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.device.type == "cpu":
            self.seen.append(str(func))
        return found


@pytest.mark.parametrize("joint", ["joint", "per_source_statistics"])
def test_weights_are_not_copied_to_count(joint: str) -> None:
    net = model(batch_norm=joint)
    net.backbone.get_parameter("conv.weight").requires_grad = False
    images = batch(1, 1)
    with OnCpu() as mode:
        flops_per_image(net, images)
    assert not [name for name in mode.seen if "clone" in name or "copy" in name]


def test_counting_leaves_the_network_alone() -> None:
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    flops_per_image(net, batch(2, 2))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
