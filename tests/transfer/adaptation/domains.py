"""Steps and runs on a labelled and an unlabelled source."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tl import GeneratedDataModule, MultiTaskDataModule
from tl.data.shifts import Shift
from tl.transfer.penalties import Step


def features(seed: int, count: int = 6, length: int = 4) -> Tensor:
    """Random features that are not centred."""
    drawn = torch.randn(count, length, generator=torch.Generator().manual_seed(seed))
    return (drawn + seed).requires_grad_()


def step(found: dict[str | None, Tensor], progress: float | None = 0.5, **heads: nn.Module) -> Step:
    """A step whose labelled source is ``clean``."""
    return Step(
        backbone=nn.Identity(),
        heads=nn.ModuleDict(heads),
        images={},
        features=found,
        logits={},
        targets={},
        sources={"clean": "clean"},
        progress=progress,
    )


def domains(**options: Any) -> MultiTaskDataModule:
    """Clean images with labels, and rotated colours without."""

    def source(**more: Any) -> GeneratedDataModule:
        return GeneratedDataModule(train_size=60, test_size=40, **more)

    shift = Shift("colour_rotation", 4)
    return MultiTaskDataModule(
        sources={"clean": source(), "odd": source(shift=shift, labels="none", draw_seed=1)},
        **{"shares": {"odd": "clean"}, "batch_size": 20, "val_size": 0.2, **options},
    )
