"""Outputs of all processes, with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


class _Gathered(torch.autograd.Function):
    """Concatenate the outputs of all processes; the gradient goes to one's own.

    Each process computes the same loss ``L`` of all outputs, and DDP takes the mean of the
    parameters' gradients over the ``W`` processes. The gradient of ``L`` by one's own outputs is
    therefore multiplied by ``W``, and the mean is the gradient of ``L`` on the joint batch. Nothing
    is sent in the backward pass, so that a balancer may call it in any order.
    """

    @staticmethod
    def forward(ctx: Any, outputs: Tensor) -> Tensor:  # noqa: ANN401, ARG004 - torch's own
        world = distributed.get_world_size()
        parts = [torch.empty_like(outputs) for _ in range(world)]
        distributed.all_gather(parts, outputs.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401, ARG004 - torch's own
        world = distributed.get_world_size()
        return gradients[0].chunk(world)[distributed.get_rank()] * world


def gathered(outputs: Tensor) -> Tensor:
    """Return the outputs of all processes in training, one's own otherwise.

    Args:
        outputs: ``(N, ...)``; ``N`` is the same in all processes in training, which evaluations do
            not guarantee.

    Returns:
        ``(W * N, ...)``, in the order of the processes.
    """
    alone = not (distributed.is_available() and distributed.is_initialized())
    if alone or not outputs.requires_grad or distributed.get_world_size() == 1:
        return outputs
    found: Tensor = _Gathered.apply(outputs)
    return found


def gathered_rows(outputs: Tensor) -> Tensor:
    """Return the outputs of all processes, which may differ in number.

    Every process must call it, also one without outputs.

    Args:
        outputs: ``(N, ...)`` with any `N`, 0 too.

    Returns:
        ``(N_1 + N_2 + ..., ...)``, in the order of the processes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return outputs
    world = distributed.get_world_size()
    if world == 1:
        return outputs
    own = torch.tensor([len(outputs)], device=outputs.device)
    parts = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(parts, own)
    counts = [int(part) for part in parts]
    padding = outputs.new_zeros(max(counts) - len(outputs), *outputs.shape[1:])
    found: Tensor = _Gathered.apply(torch.cat([outputs, padding]))
    each = found.chunk(world) if max(counts) else [found] * world
    return torch.cat([part[:count] for part, count in zip(each, counts, strict=True)])
