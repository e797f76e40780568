"""A small backbone, and what loading into it must leave as it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tl.backbones.resnet_cifar import ResNetCifar
from tl.transfer.weights import WeightsMismatchError, load_weights

State = dict[str, Tensor]


def small_backbone(seed: int) -> ResNetCifar:
    """Return a small backbone in which no value is the initial one of another seed."""
    torch.manual_seed(seed)
    net = ResNetCifar(depth=8)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
        else:
            tensor.fill_(seed + 1)
    return net


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def copied(module: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def refused(backbone: nn.Module, path: Path, **options: Any) -> str:
    """Return the error that loading gives, which must be one line and leave all as it was."""
    before = copied(backbone)
    with pytest.raises(ValueError, match=r".") as caught:
        load_weights(backbone, path, **options)
    assert equal(before, copied(backbone))
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, WeightsMismatchError):
        assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)
