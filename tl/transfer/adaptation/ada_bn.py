"""AdaBN: batch norm with the statistics of the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from tl.private.torch import BatchNorm
from tl.transfer.weight_space import estimate_statistics

T = TypeVar("T")


def need_batch_norm(method: str, network: nn.Module) -> list[nn.Module]:
    """Return the batch norm layers of a network.

    Raises:
        ValueError: If there is none.
    """
    found: list[nn.Module] = [m for m in network.modules() if isinstance(m, BatchNorm)]
    if not found:
        raise ValueError(
            f"{method} adapts batch norm, and the backbone {type(network).__name__} has none."
        )
    return found


def adapt_statistics(backbone: nn.Module, batches: Iterable[T], forward: Callable[[T], Any]) -> int:
    """Replace batch norm's running statistics by those of the target (Li et al., 2017).

    "Revisiting Batch Normalization For Practical Domain Adaptation", arXiv:1603.04779, algorithm 1:
    each layer's mean and variance over the target's samples, without labels; scale and shift stay.
    Layers are normalised by their batch while the statistics are collected.

    Returns:
        The number of batches.

    Raises:
        ValueError: If the network has no batch norm, or there is no batch.
    """
    need_batch_norm("AdaBN", backbone)
    return estimate_statistics(backbone, batches, forward)
