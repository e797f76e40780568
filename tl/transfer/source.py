"""The source as a whole network, backbone and head, out of one of our checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from tl.transfer.files import listed, read_checkpoint
from tl.transfer.names import find_state
from tl.transfer.weights import load_weights


class SourceHead(nn.Module):
    """A linear head whose size is that of the weights that come in, also from a state dict.

    Attributes:
        linear: The layer; ``None`` before any weights came in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear: nn.Linear | None = None

    def set(self, weight: Tensor, bias: Tensor | None) -> None:
        """Copy weights ``(C, D)`` and a bias ``(C,)``."""
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.to(weight.device, weight.dtype)
        with torch.no_grad():
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(bias)
        self.linear = layer

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 before any weights came in."""
        return 0 if self.linear is None else self.linear.out_features

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of features ``(N, D)``.

        Raises:
            ValueError: If no weights came in.
        """
        if self.linear is None:
            raise ValueError("The source's head has no weights yet; they come in with `fit`.")
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
            self.set(torch.zeros_like(weight), state_dict.get(f"{prefix}linear.bias"))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SourceNetwork(nn.Module):
    """A frozen copy of a network that always evaluates.

    Args:
        backbone: Architecture of the source's backbone; copied.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = SourceHead()
        self._freeze()

    def _freeze(self) -> None:
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a source that is compared against must not change."""
        del mode
        return super().train(False)

    def load(self, path: str | Path, task: str | None = None) -> None:
        """Fill backbone and head.

        Args:
            path: A checkpoint of this framework.
            task: Whose head to take, where the checkpoint has several.

        Raises:
            CheckpointError: If the file cannot be read or does not fit.
            ValueError: If it has no head, or several and `task` names none of them.
        """
        load_weights(self.backbone, path)
        self.head.set(*head_weights(path, task))
        self._freeze()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of images ``(N, 3, H, W)``, without gradients."""
        with torch.no_grad():
            logits: Tensor = self.head(self.backbone(images)).float()
        return logits


def head_weights(path: str | Path, task: str | None = None) -> tuple[Tensor, Tensor | None]:
    """Read a head's weight ``(C, D)`` and bias ``(C,)`` from a checkpoint of this framework.

    Args:
        path: The checkpoint.
        task: Whose head to take, where there are several.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has no head, or several and `task` names none of them.
    """
    state = find_state(read_checkpoint(path)) or {}
    names = [
        name.removeprefix("heads.").removesuffix(".weight")
        for name in state
        if name.startswith("heads.") and name.endswith(".weight")
    ]
    chosen = names[0] if task is None and len(names) == 1 else task
    if chosen not in names:
        found = f"heads of {listed(names)}" if names else "no head (`heads.<task>.weight`)"
        wanted = f"one of {task!r} is wanted" if task else "name one of them by `task`"
        raise ValueError(
            f"{path}: has {found}; {wanted if names else 'use a checkpoint of this framework'}."
        )
    return state[f"heads.{chosen}.weight"], state.get(f"heads.{chosen}.bias")


def class_names_of(path: str | Path, task: str | None = None) -> Sequence[str]:
    """Read the names of a source's classes, where its checkpoint has them; else nothing.

    Args:
        path: A checkpoint.
        task: Whose classes, where there are several tasks.
    """
    record = read_checkpoint(path).get("tl")
    names = record.get("class_names") if isinstance(record, Mapping) else None
    if not isinstance(names, Mapping):
        return []
    chosen = next(iter(names), None) if task is None else task
    found = names.get(chosen)
    return [str(name) for name in found] if isinstance(found, Sequence) else []
