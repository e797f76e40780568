from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tl import Classification, MultiTaskModule
from tl.callbacks.compute import flops_per_image
from tl.tasks.base import Reads


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


class Pyramid(One):
    """Two maps, whose operations are counted by hand."""

    map_channels = (4, 6)

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(4, 6, 1, stride=2, bias=False)
        self.num_features = 6

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return ``(N, 4, H, W)`` and ``(N, 6, H / 2, W / 2)``."""
        first = self.norm(self.conv(images))
        return [first, self.second(first)]

    def pool(self, maps: list[Tensor]) -> Tensor:
        """Return features ``(N, 6)``."""
        return maps[-1].mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 6)``."""
        return self.pool(self.maps(images))


class OnMaps(Classification):
    """A head of a 1x1 convolution on the first map."""

    reads: ClassVar[Reads] = "maps"

    def head(self, num_features: Any) -> nn.Module:
        """Return it."""
        return First(num_features[0], self.num_classes)


class First(nn.Module):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, outputs, 1, bias=False)

    def forward(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        found: Tensor = self.layer(maps[0])
        return found


def test_heads_on_maps_count_at_the_size_of_their_maps() -> None:
    first, second = 2 * 27 * 4 * 64, 2 * 4 * 6 * 16  # forward, at 8x8 and at 4x4 places
    vector, on_map = 2 * 6 * 10, 2 * 4 * 5 * 64
    vectors = Classification("a", 10, source="a")
    maps = OnMaps("b", 5, source="b")
    backbone = 2 * first + 3 * second  # the images need no gradient
    both = MultiTaskModule(Pyramid(), [vectors, maps])
    for a, b in ((1, 1), (3, 1)):
        # nothing that trains on the second source depends on the second map
        ours = a * (backbone + 3 * vector) + b * (2 * first + second + 3 * on_map)
        assert flops_per_image(both, batch(a, b)) == ours / (a + b)
    alone = MultiTaskModule(Pyramid(), [maps])
    assert flops_per_image(alone, {"b": batch(0, 1)["b"]}) == 2 * first + second + 3 * on_map
    alone.backbone.requires_grad_(False)
    found = flops_per_image(alone, {"b": batch(0, 1)["b"]})
    assert found == first + second + 2 * on_map


def test_one_source_feeds_heads_of_both_kinds_in_one_pass() -> None:
    tasks = [Classification("a", 10, target="a"), OnMaps("b", 5, target="b")]
    first, second = 2 * 27 * 4 * 64, 2 * 4 * 6 * 16
    wanted = 2 * first + 3 * second + 3 * (2 * 6 * 10 + 2 * 4 * 5 * 64)
    images = batch(2, 0)["a"][0]
    assert flops_per_image(MultiTaskModule(Pyramid(), tasks), (images, {})) == wanted


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
