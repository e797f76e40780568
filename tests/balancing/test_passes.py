from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl.balancing.passes import Backward, MicroBatch


def backward(processes: int) -> Backward:
    """A pass whose other processes hold the same values as this one."""

    def total(tensor: Tensor) -> Tensor:
        return tensor * processes + 1

    empty: dict[str, Any] = {}
    batch = MicroBatch(empty, empty, empty, step=0, seed=0, total=total, scaled=False)
    return Backward(
        batch,
        torch.tensor(0.0),
        stages={},
        last_block=[],
        own=[],
        graphs={},
        last=True,
        scale=1.0,
        processes=processes,
    )


def test_a_mean_is_over_the_processes() -> None:
    assert backward(4).mean(torch.tensor(3.0)) == (3 * 4 + 1) / 4


def test_a_single_process_communicates_nothing() -> None:
    assert backward(1).mean(torch.tensor(3.0)) == 3
