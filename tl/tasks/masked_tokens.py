"""Words that were hidden: how a language model learns from plain text."""

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
    """Guess hidden tokens (Devlin et al., 2019, arXiv:1810.04805, section 3.1).

    ``L = -mean log p(token | its text)`` over the hidden tokens. The head is the paper's: a linear
    layer, GELU and layer norm before the vocabulary. Its output layer has weights of its own, as
    heads share none with the backbone; BERT shares them with the embedding.

    Args:
        name: Name in metrics (``val/<name>/loss``) and heads; letters, digits, ``_`` and ``-``.
        vocab_size: Size of the vocabulary.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that carries several.

    Raises:
        ValueError: If there are fewer than 2 words.
    """

    name: str
    vocab_size: int
    source: str | None = None
    target: str | None = None
    kind: ClassVar[str] = "masked_tokens"
    reads: ClassVar[Reads] = "tokens"
    tallied: ClassVar[tuple[str, ...]] = ("acc",)
    columns: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size < 2:  # noqa: PLR2004 - there is nothing to guess of one
            raise ValueError(
                f"Task {self.name!r} needs a vocabulary of at least 2, got {self.vocab_size}."
            )

    @property
    def answers(self) -> str:
        """How many words."""
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
        """Return token numbers ``(N, L)`` int64, -1 where a token was not hidden."""
        if not isinstance(target, Tensor) or target.is_floating_point() or target.ndim != 2:  # noqa: PLR2004
            found = getattr(target, "shape", type(target).__name__)
            raise ValueError(
                f"The targets of task {self.name!r} must be token numbers of shape (N, L), "
                f"{MISSING} where none was hidden, got {found}."
            )
        target = target.long()
        if not checked:
            wrong = (target < MISSING) | (target >= self.vocab_size)
            if wrong.any():
                row, place = (int(i) for i in wrong.nonzero()[0])
                raise ValueError(
                    f"Task {self.name!r} has a vocabulary of {self.vocab_size}, and token {place} "
                    f"of sample {row} of the batch is {int(target[row, place])}; expected 0 to "
                    f"{self.vocab_size - 1}, or {MISSING} where none was hidden."
                )
        return target

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy over the hidden tokens.

        Args:
            output: Logits ``(..., vocab_size)``.
            target: Token numbers ``(...)``, -1 where none was hidden.
        """
        logits, hidden = self._hidden(output, target)
        return functional.cross_entropy(logits, hidden, reduction="sum") / max(len(hidden), 1)

    def _hidden(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        known = target != MISSING
        return output[known], target[known]

    def present(self, target: Tensor) -> Tensor:
        """Return how many tokens were hidden."""
        return (target != MISSING).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return how many hidden tokens are guessed right."""
        return [(output.argmax(-1) == target).sum()]

    def scores(self) -> dict[str, Metric]:
        """Return the share of the hidden tokens that are guessed right; the loss decides."""
        return {"acc": MulticlassAccuracy(self.vocab_size, average="micro", validate_args=False)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Let a metric see the hidden tokens of a batch."""
        logits, hidden = self._hidden(output, target)
        if len(hidden):
            metric.update(logits.argmax(-1), hidden)

    def answer(self, output: Tensor) -> Tensor:
        """Return the most probable token at each place ``(N, L)``."""
        return output.argmax(-1)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the numbers of these tokens, separated by blanks."""
        del names
        return [{"tokens": " ".join(map(str, row))} for row in answer.cpu().tolist()]
