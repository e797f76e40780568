"""Texts with their targets, cut into batches."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tl.data.loaders import mixed_order
from tl.data.text.tokens import Tokens
from tl.tasks import Task

#: `tl.data.text.masking.mask_tokens` with all but tokens, indices and epoch.
Masking = Callable[..., tuple[Tensor, Tensor]]


def shown_texts(texts: Sequence[str], pairs: Sequence[str] | None) -> Sequence[str]:
    """Return texts as they are shown, both texts of a pair in one line."""
    return [" | ".join(both) for both in zip(texts, pairs, strict=True)] if pairs else texts


class TextSet(Dataset[Any]):
    """Texts of a split, as tokens.

    Args:
        tokens: Tokens of all texts.
        targets: Targets of all texts by column; empty without targets.
        texts: The texts, for messages, dashboards and predictions.
        pad_id: Id of the padding token.
        types: Include ``token_type_ids``, as for pairs.

    Attributes:
        index: Rows of the texts in this set ``(M,)``.
        masking: How tokens are masked; ``None`` leaves them visible.
        epoch: Returns the epoch of the masks; ``None`` for those of evaluation.
        with_targets: Whether batches hold targets; if not, they hold positions instead.
        withholds: Whether targets are withheld; batches then hold an empty dict instead.
    """

    def __init__(
        self,
        tokens: Tokens,
        targets: Mapping[str, Tensor],
        texts: Sequence[str],
        pad_id: int,
        *,
        types: bool,
    ) -> None:
        self.tokens = tokens
        self.all_targets = dict(targets)
        self.texts = texts
        self.pad_id = pad_id
        self.types = types
        self.index = torch.arange(len(tokens))
        self.masking: Masking | None = None
        self.epoch: Callable[[], int] | None = None
        self.with_targets = True
        self.withholds = False

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.index)

    def subset(self, positions: Tensor) -> Self:
        """Return the texts at these positions ``(M,)``."""
        part = copy.copy(self)
        part.index = self.index[positions]
        return part

    def masked(self, masking: Masking | None, epoch: Callable[[], int] | None = None) -> Self:
        """Return the same texts with masked tokens; `epoch` gives new masks in each epoch."""
        same = copy.copy(self)
        same.masking, same.epoch = masking, epoch
        return same

    def unlabelled(self) -> Self:
        """Return the same texts with positions instead of targets."""
        same = self.masked(None)
        same.with_targets = False
        return same

    def withheld(self) -> Self:
        """Return the same texts without their targets."""
        same = copy.copy(self)
        same.all_targets, same.withholds = {}, True
        return same

    def labelled(self, task: Task) -> int:
        """Return how many texts have a target of a task; every text has masked tokens."""
        targets = self.targets
        found = next(iter(targets.values())) if len(targets) == 1 else None
        target = targets.get(str(task.target), found)
        if target is None or task.reads == "tokens":
            return len(self)
        return int(task.labelled(task.truth(task.settle(target))))

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each text ``(M,)``."""
        return self.tokens.lengths[self.index]

    @property
    def targets(self) -> dict[str, Tensor]:
        """Targets of the texts in this set, by column."""
        return {name: target[self.index] for name, target in self.all_targets.items()}

    def __getitem__(self, positions: Tensor) -> Any:  # noqa: ANN401 - see below
        """Return a batch by positions ``(B,)``.

        Without masking it is ``(inputs, targets)``: the targets are one tensor, a dict by column if
        there are several, or the positions if there are none. With masking only, it is ``(inputs,
        masked tokens)``. With both, it holds the same texts twice: ``{"text": (inputs, targets),
        "masked": (inputs, masked tokens)}``.
        """
        rows = self.index[positions]
        inputs = self.tokens.batch(rows, self.pad_id, types=self.types)
        plain = (inputs, self._targets(rows, positions))
        if self.masking is None:
            return plain
        epoch = -1 if self.epoch is None else self.epoch()
        ids, hidden = self.masking(inputs["input_ids"], rows, epoch=epoch)
        masked = ({**inputs, "input_ids": ids}, hidden)
        return {"text": plain, "masked": masked} if self.all_targets else masked

    def _targets(self, rows: Tensor, positions: Tensor) -> Tensor | dict[str, Tensor]:
        if self.withholds and self.with_targets:
            return {}
        if not self.with_targets or not self.all_targets:
            return positions
        found = {name: target[rows] for name, target in self.all_targets.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def name(self, position: int) -> str:
        """Return the text at a position."""
        return self.texts[int(self.index[position])]

    def shown(self) -> list[str]:
        """Return the texts of this set."""
        return [self.texts[row] for row in self.index.tolist()]

    def mixed(self) -> Tensor:
        """Return an order ``(M,)`` whose every prefix is a fair sample of the whole."""
        return mixed_order(self.targets.values(), len(self))

    def digest(self) -> bytes:
        """Return a hash of tokens and targets, in order."""
        digest = hashlib.sha256(self.tokens.digest(self.index))
        for name, target in sorted(self.targets.items()):
            digest.update(f"{name} {target.dtype} {tuple(target.shape)}".encode())
            digest.update(np.ascontiguousarray(target.numpy()).data)
        return digest.digest()
