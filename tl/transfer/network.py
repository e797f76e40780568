"""The source as a whole network, backbone and head, from a checkpoint of this framework."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from tl.batch import Inputs, at_least_float32
from tl.transfer.opened import Source
from tl.transfer.source import Head, read_head
from tl.transfer.weights import load_weights


class SourceHead(nn.Module):
    """A linear head that takes its size from the loaded weights, also from a state dict.

    Args:
        trains: Whether its weights require gradients.

    Attributes:
        linear: The layer; ``None`` until weights are loaded.
    """

    def __init__(self, *, trains: bool) -> None:
        super().__init__()
        self.trains = trains
        self.linear: nn.Linear | None = None

    def set(self, head: Head) -> None:
        """Copy the weights of a head."""
        self._make_room(head.weight, head.bias)
        if self.linear is not None:
            with torch.no_grad():
                self.linear.weight.copy_(head.weight)
                if head.bias is not None:
                    self.linear.bias.copy_(head.bias)

    def _make_room(self, weight: Tensor, bias: Tensor | None) -> None:
        """Create the layer, unless it has these shapes: an optimizer may hold its weights."""
        old = self.linear
        if (
            old is not None
            and old.weight.shape == weight.shape
            and (old.bias is None) == (bias is None)
        ):
            return
        # filled right after: uses no random numbers
        self.linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]  # torch has no types
            nn.Linear,
            *(weight.shape[1], weight.shape[0]),
            bias=bias is not None,
            device=weight.device if old is None else old.weight.device,
            dtype=weight.dtype,
        )
        self.linear.requires_grad_(self.trains)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of features ``(N, D)``.

        Raises:
            ValueError: If no weights are loaded.
        """
        if self.linear is None:
            raise ValueError("The source's head has no weights yet; `fit` loads them.")
        logits: Tensor = self.linear(features)
        return logits

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *rest: Any,  # noqa: ANN401 - torch's hook
    ) -> None:
        weight = state_dict.get(f"{prefix}linear.weight")
        if weight is not None:
            self._make_room(weight, state_dict.get(f"{prefix}linear.bias"))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SourceNetwork(nn.Module):
    """A frozen copy of a network, always in evaluation mode.

    Args:
        backbone: Architecture of the source's backbone; copied.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = SourceHead(trains=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a reference network must not change."""
        return super().train(False)

    def load(
        self,
        path: Source,
        task: str | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Head:
        """Load backbone and head.

        Args:
            path: A checkpoint of this framework.
            task: Task whose head to take, if the checkpoint has several.
            rename: Beginnings of names in it and what they are called in the backbone.

        Returns:
            The head.

        Raises:
            CheckpointError: If the file cannot be read or does not fit.
            ValueError: If it has no head, or several and `task` names none of them, or its head
                does not predict classes.
        """
        head = read_head(path, task)
        if head.answers not in (None, f"{len(head.weight)} classes"):
            raise ValueError(
                f"{path}: the head of {head.task!r} gives {head.answers}; the source must be a "
                "classification with one class per sample."
            )
        load_weights(self.backbone, path, rename=rename)
        self.head.set(head)
        return head

    def forward(self, images: Inputs) -> Tensor:
        """Return logits ``(N, C)`` of images ``(N, 3, H, W)``, without gradients."""
        with torch.no_grad():
            logits: Tensor = self.head(self.backbone(images))
        return at_least_float32(logits)
