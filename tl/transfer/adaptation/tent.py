"""Tent: lower the entropy of predictions at test time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from tl.transfer.adaptation.ada_bn import need_batch_norm

T = TypeVar("T")


def mean_entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of predictions in nats, a scalar.

    Args:
        logits: ``(N, C)`` or, for pixels, ``(N, C, H, W)``.
    """
    logs = torch.log_softmax(logits, dim=1)
    return -(logs.exp() * logs).sum(1).mean()


class TentNetwork:
    """A network that adapts to each batch that it reads (Wang et al., 2021, arXiv:2006.10726).

    Batch norm normalises by the batch. After a batch is answered, its mean entropy is lowered by
    one step on batch norm's scales and shifts (section 3); running statistics and all other weights
    stay. Later batches see the steps of earlier ones.

    Args:
        network: The network, which is changed: give a copy.
        lr: Learning rate of Adam.

    Raises:
        ValueError: If it has no batch norm with scale and shift.
    """

    def __init__(self, network: nn.Module, lr: float) -> None:
        self.network = network.eval()
        self.network.requires_grad_(requires_grad=False)
        layers: list[Any] = need_batch_norm("Tent", network)
        for layer in layers:
            layer.train()
            layer.momentum = 0.0  # the batch normalises, and running statistics stay
            layer.num_batches_tracked = None
        given = (getattr(layer, name, None) for layer in layers for name in ("weight", "bias"))
        self.adapted = [parameter for parameter in given if isinstance(parameter, nn.Parameter)]
        if not self.adapted:
            raise ValueError("Tent steps on batch norm's scales and shifts, and there are none.")
        for parameter in self.adapted:
            parameter.requires_grad = True
        self._optimizer = torch.optim.Adam(self.adapted, lr=lr)

    def answer(self, forward: Callable[[nn.Module], T], entropy: Callable[[T], Tensor]) -> T:
        """Return what the network gives for a batch, and take a step on it.

        Args:
            forward: Passes the batch through the network.
            entropy: Mean entropy of the predictions on what that returns.
        """
        with torch.inference_mode(mode=False), torch.enable_grad():
            found = forward(self.network)
            # layers of another task's stream have no part in it
            gradients = torch.autograd.grad(entropy(found), self.adapted, allow_unused=True)
            for parameter, gradient in zip(self.adapted, gradients, strict=True):
                parameter.grad = gradient
            self._optimizer.step()
        return found
