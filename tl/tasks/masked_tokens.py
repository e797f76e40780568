"""Masked language modelling: predict hidden tokens, to learn from plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from tl.tasks.base import Reads, Task
from tl.tasks.class_targets import MISSING
from tl.tasks.heads import linear_head, vector_length


@dataclass(frozen=True)
class MaskedTokens(Task):
    """Predict hidden tokens (Devlin et al., 2019, arXiv:1810.04805, section 3.1).

    ``L = -mean log p(token | its text)`` over the hidden tokens. The head is the paper's: a linear
    layer, GELU and layer norm before the vocabulary. Its output layer has its own weights, because
    heads share none with the backbone; BERT shares them with the embedding.

    Args:
        name: Name in metrics (``val/<name>/loss``) and heads; letters, digits, ``_`` and ``-``.
        vocab_size: Size of the vocabulary, at least 2.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If the vocabulary is smaller than 2.
    """

    name: str
    vocab_size: int
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "masked_tokens"
    reads: ClassVar[Reads] = "tokens"
    counts_samples: ClassVar[bool] = False
    tallied: ClassVar[tuple[str, ...]] = ("acc",)
    columns: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size < 2:  # noqa: PLR2004 - one word needs no prediction
            raise ValueError(
                f"Task {self.name!r} needs a vocabulary of at least 2, got {self.vocab_size}."
            )

    @property
    def answers(self) -> str:
        """The size of the vocabulary."""
        return f"{self.vocab_size} word pieces"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a new head on tokens ``(N, L, num_features)``: logits ``(N, L, vocab_size)``."""
        size = vector_length(num_features)
        return nn.Sequential(
            nn.Linear(size, size),
            nn.GELU(),
            nn.LayerNorm(size),
            linear_head(size, self.vocab_size),
        )

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return token ids ``(N, L)`` int64, -1 for tokens that are not hidden."""
        wanted = f"token ids of shape (N, L), {MISSING} for tokens that are not hidden"
        given = self.tensor_of(target, wanted, lambda shape: len(shape) == 2)  # noqa: PLR2004
        if given.is_floating_point():
            raise ValueError(
                f"The targets of task {self.name!r} are {given.dtype}; expected {wanted}."
            )
        found = given.long()
        if not checked:
            wrong = (found < MISSING) | (found >= self.vocab_size)
            if wrong.any():
                row, place = (int(i) for i in wrong.nonzero()[0])
                raise ValueError(
                    f"Task {self.name!r} has a vocabulary of {self.vocab_size}, and token {place} "
                    f"of sample {row} of the batch is {int(found[row, place])}; expected 0 to "
                    f"{self.vocab_size - 1}, or {MISSING} for tokens that are not hidden."
                )
        return found

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits ``(..., vocab_size)`` over the hidden tokens."""
        logits, hidden = self._hidden(output, target)
        return functional.cross_entropy(logits, hidden, reduction="sum") / max(len(hidden), 1)

    def _hidden(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        known = target != MISSING
        return output[known], target[known]

    def present(self, target: Tensor) -> Tensor:
        """Return how many tokens are hidden."""
        return (target != MISSING).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return how many hidden tokens are predicted correctly."""
        return [(output.argmax(-1) == target).sum()]

    def scores(self) -> dict[str, Metric]:
        """Return the accuracy on hidden tokens; the loss decides."""
        return {"acc": MulticlassAccuracy(self.vocab_size, average="micro", validate_args=False)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with the hidden tokens of a batch."""
        logits, hidden = self._hidden(output, target)
        if len(hidden):
            metric.update(logits.argmax(-1), hidden)

    def answer(self, output: Tensor) -> Tensor:
        """Return the most probable token at each position ``(N, L)``."""
        return output.argmax(-1)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the ids of these tokens, separated by spaces."""
        return [{"tokens": " ".join(map(str, row))} for row in answer.cpu().tolist()]
