"""Stochastic normalisation: batch norm that uses the source's statistics at random."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from tl.backbones.norms import runs_its_children
from tl.private.torch import BatchNorm
from tl.transfer.freezing import FullFineTuning

_TORCHS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def stoch_norm(by_batch: Tensor, by_statistics: Tensor, probability: float) -> Tensor:
    """Choose for each channel at random how it is normalised.

    ``(1 - s_c) * x_batch + s_c * x_moving`` with ``s_c`` Bernoulli (Kou et al., 2020, "Stochastic
    Normalization", NeurIPS, algorithm 1).

    Args:
        by_batch: Activations ``(N, C, ...)`` normalised by the batch.
        by_statistics: The same normalised by the moving statistics.
        probability: That a channel takes the latter.
    """
    channels = by_batch.shape[1]
    chosen = torch.rand(channels, device=by_batch.device) < probability
    return torch.where(chosen.view(1, -1, *[1] * (by_batch.ndim - 2)), by_statistics, by_batch)


class StochNorm(FullFineTuning):
    """Train everything, each channel of batch norm by the moving statistics at random.

    See :func:`stoch_norm`. As in the authors' code, the moving statistics are those from before the
    batch. The choice is a function of (seed, epoch, step, rank); evaluation is plain batch norm.

    Args:
        probability: That a channel is normalised by the moving statistics, 0 to 1; the paper's 0.5.

    Raises:
        ValueError: If it is out of range; at the run's start, if the network has no batch norm with
            one set of running statistics, or a kind of it that does more than torch's.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__("train")
        if not 0 <= probability <= 1:
            raise ValueError(f"`probability` must be from 0 to 1, got {probability}.")
        self.probability = probability

    def hooks(self, backbone: nn.Module) -> list[RemovableHandle]:
        """Mix the outputs of each batch norm in training."""
        layers: list[Any] = [m for m in backbone.modules() if isinstance(m, BatchNorm)]
        if not layers or any(hasattr(layer, "sources") for layer in layers):
            raise ValueError(
                "StochNorm needs a backbone with batch norm, and one set of running statistics for "
                "all sources; choose another strategy or `batch_norm`."
            )
        for layer in layers:
            if type(layer) not in _TORCHS and not runs_its_children(layer):
                raise ValueError(
                    "StochNorm mixes the outputs of torch's batch norm, and "
                    f"{type(layer).__name__} may do more; choose another strategy or network."
                )
        tracking = [layer for layer in layers if layer.running_mean is not None]
        return [handle for layer in tracking for handle in self._hooks_of(layer)]

    def _hooks_of(self, layer: nn.Module) -> Iterator[RemovableHandle]:
        before: list[Tensor] = []  # mean and variance, which the layer is about to update in place

        def keep(layer: Any, inputs: tuple[Tensor, ...]) -> None:  # noqa: ANN401 - a batch norm
            del inputs
            before[:] = [layer.running_mean.clone(), layer.running_var.clone()]

        def mix(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:  # noqa: ANN401 - as above
            if not layer.training:
                return output
            mean, variance = before
            moving = functional.batch_norm(
                inputs[0], mean, variance, layer.weight, layer.bias, training=False, eps=layer.eps
            )
            # an activation works on each value, so it may come before the choice
            for child in layer.children():
                moving = child(moving)
            return stoch_norm(output, moving, self.probability)

        yield layer.register_forward_pre_hook(keep)
        yield layer.register_forward_hook(mix)
