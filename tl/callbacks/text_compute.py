"""How much arithmetic training on text takes: that of its tokens, not of padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tl.backbones.text import TextBackbone
from tl.callbacks.compute import without_weights
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source, source_of

_SHORT = 8  # tokens of the shorter of two texts that are counted


@dataclass(frozen=True)
class TextOperations:
    """Operations of a training step, forward and backward, from the tokens of its texts.

    ``sum_i a l_i + b l_i^2 + c`` over texts of ``l_i`` tokens: layers take `a` for a token,
    attention takes `b` for a pair of tokens, heads on vectors take `c` for a text. These are the
    model's operations, as model FLOPs utilisation wants them (Chowdhery et al., 2022,
    arXiv:2204.02311, appendix B): those on padding do not count.

    Args:
        per_token: `a` of the backbone.
        per_pair: `b`.
        heads: By source, what the heads add to `a`, and their `c`; ``None`` is the only source.
    """

    per_token: float
    per_pair: float
    heads: Mapping[str | None, tuple[float, float]]

    def of(self, batch: AnyBatch) -> Tensor:
        """Return the operations of a batch, a number that stays on its device."""
        total = torch.zeros(())
        for source, (inputs, _) in by_source(batch).items():
            mask = inputs["attention_mask"]  # type: ignore[index]  # of texts
            # MPS has no float64
            lengths = mask.sum(1).to(torch.float32 if mask.is_mps else torch.float64)
            tokens, texts = self.heads.get(source, (0.0, 0.0))
            found = (
                self.per_token + tokens
            ) * lengths.sum() + self.per_pair * lengths.square().sum()
            total = total.to(found) + found + texts * len(lengths)
        return total


def text_operations(module: SharedBackboneModule, batch: AnyBatch) -> TextOperations | None:
    """Count what a language model's training takes, from shapes: nothing is computed.

    Frozen layers count as they are.

    Args:
        module: The module, in its training state.
        batch: A batch as passed to `training_step`.

    Returns:
        ``None`` where the backbone is not a `TextBackbone`, or around one.
    """
    found = next((p for p in module.backbone.modules() if isinstance(p, TextBackbone)), None)
    if found is None:
        return None
    net = cast("TextBackbone", without_weights(found)).train()
    once, twice = (_of_length(net, length) for length in (_SHORT, 2 * _SHORT))
    per_pair = (twice - 2 * once) / (2 * _SHORT**2)
    parts = by_source(batch)
    # forward, gradient of weights, and of features if needed: products of equal size
    products = 3 if any(p.requires_grad for p in module.backbone.parameters()) else 2
    heads: dict[str | None, tuple[float, float]] = {}
    for name, task in module.trained_tasks.items():
        weights = sum(p.numel() for p in module.head_of(name).parameters() if p.ndim > 1)
        source, count = source_of(task, parts), 2.0 * products * weights
        tokens, texts = heads.get(source, (0.0, 0.0))
        of_tokens = task.reads == "tokens"
        heads[source] = (tokens + count * of_tokens, texts + count * (not of_tokens))
    return TextOperations(once / _SHORT - _SHORT * per_pair, per_pair, heads)


def _of_length(net: TextBackbone, length: int) -> float:
    """Count the operations of one text, forward and backward.

    Without a mask: to see whether one hides anything, Transformers reads its numbers.
    """
    ids = torch.zeros(2, length, dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False) as counter:
        tokens = net.model(input_ids=ids).last_hidden_state
        if tokens.requires_grad:
            tokens.sum().backward()
    return float(counter.get_total_flops()) / 2
