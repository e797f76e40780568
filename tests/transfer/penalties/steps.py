"""A small network, its source, and a training step as penalties see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl import GeneratedDataModule
from tl.transfer.layer_outputs import outputs_of
from tl.transfer.penalties import EWC, Penalty, Start, Step

PENALTIES = sorted(
    (
        kind
        for kind in Penalty.__subclasses__()
        if kind.__module__.startswith("tl.transfer.penalties.")
    ),
    key=lambda kind: kind.__name__,
)


class Small(nn.Module):
    """A smooth network without batch norm: 3 colours to 4 features."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8)
        self.top = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 4)``."""
        features: Tensor = self.top(self.conv(images).tanh().mean((2, 3))).tanh()
        return features


def penalty_of(kind: type[Penalty], **settings: Any) -> Penalty:
    """A penalty with its defaults; EWC's source data are a few drawn images."""
    if kind is EWC:
        data = GeneratedDataModule(train_size=60, test_size=20, batch_size=20)
        settings = {"data": data, "images": 12, **settings}
    return kind(**settings)


def network(seed: int = 0, classes: int = 5) -> tuple[nn.Module, nn.ModuleDict]:
    """A backbone and a head of one task."""
    torch.manual_seed(seed)
    return Small(), nn.ModuleDict({"task": nn.Linear(4, classes)})


def checkpoint(
    path: Path,
    backbone: nn.Module,
    heads: nn.ModuleDict,
    class_names: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Save a source as runs do, as far as penalties read it."""
    state = nn.ModuleDict({"backbone": backbone, "heads": heads}).state_dict()
    names = {task: list(found) for task, found in (class_names or {}).items()}
    torch.save({"state_dict": state, "epoch": 0, "tl": {"class_names": names}}, path)
    return str(path)


def images(count: int = 6, seed: int = 1) -> Tensor:
    """Images ``(count, 3, 32, 32)``."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def start(
    backbone: nn.Module, heads: nn.ModuleDict, init_from: str | None, **settings: Any
) -> Start:
    """The start of a run on ten images whose labels go round."""
    classes = {task: len(head.get_parameter("weight")) for task, head in heads.items()}
    labels = torch.arange(10) % min(classes.values())
    return Start(
        **{
            "backbone": backbone,
            "heads": heads,
            "init_from": init_from,
            "rename": {},
            "pretrained": False,
            "classes": classes,
            "class_names": {},
            "device": torch.device("cpu"),
            "batches": lambda _: [(images(10), labels)],
            **settings,
        }
    )


def step(backbone: nn.Module, heads: nn.ModuleDict, pixels: Tensor, target: Tensor) -> Step:
    """A step on one batch, which has no name."""
    convolutions = [n for n, layer in backbone.named_modules() if isinstance(layer, nn.Conv2d)]
    with outputs_of(backbone, convolutions) as layers:
        features = backbone(pixels)
    return Step(
        backbone=backbone,
        heads=heads,
        images={None: pixels},
        features={None: features},
        logits={task: head(features) for task, head in heads.items()},
        targets=dict.fromkeys(heads, target),
        sources=dict.fromkeys(heads),
        layers=layers,
    )


def begun(penalty: Penalty, backbone: nn.Module, heads: nn.ModuleDict, path: str) -> Penalty:
    """Take a penalty through the start of a run."""
    penalty.attach(backbone, heads)
    state = start(backbone, heads, path)
    penalty.prepare(state)
    penalty.start(state)
    return penalty
