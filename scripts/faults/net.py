"""A small network with all that a resume must find again, which on demand fails on one rank."""

from __future__ import annotations

import os
import signal

from torch import Tensor, nn


class Net(nn.Module):
    """Two stages with batch norm and dropout.

    ``FAULT="killed 1"`` in the environment kills the process of rank 1 in its fifth training
    step, ``FAULT="raises 1"`` lets it raise there.
    """

    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 48, 4, stride=4), nn.BatchNorm2d(48), nn.ReLU())
        self.layer1 = nn.Sequential(
            nn.Conv2d(48, 128, 2, stride=2), nn.BatchNorm2d(128), nn.ReLU(), nn.Dropout(0.1)
        )
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 128)``."""
        self.calls += self.training
        how, _, rank = os.environ.get("FAULT", "").partition(" ")
        if how and self.calls == 5 and rank == os.environ.get("LOCAL_RANK", "0"):
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError(f"this is the fault of rank {rank}")
        features: Tensor = self.layer1(self.stem(images)).mean((2, 3))
        return features

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts."""
        return {"stem": [self.stem], "layer1": [self.layer1]}
