"""Numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric

from tl.tasks.base import Task
from tl.tasks.heads import linear_head, vector_length

_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
}


@dataclass(frozen=True, init=False)
class Regression(Task):
    """One number for each sample, or several, with R2, mean absolute and root mean squared error.

    Targets are ``(N,)`` or ``(N, outputs)``, NaN where there is none: each known number counts
    alike in loss and errors. R2 is the mean over the outputs.

    Args:
        name: Name in metrics (``val/<name>/mae``) and heads; letters, digits, ``_`` and ``-``.
        outputs: How many numbers a sample has.
        loss: ``mse``, ``l1`` or ``huber`` (Huber, 1964, with a threshold of 1).
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that carries several.

    Raises:
        ValueError: If there is no output, or no such loss.
    """

    name: str
    outputs: int
    loss_name: str
    source: str | None
    target: str | None
    kind: ClassVar[str] = "regression"
    score: ClassVar[str] = "mae"
    tallied: ClassVar[tuple[str, ...]] = ("mae",)
    columns: ClassVar[tuple[str, ...]] = ("value",)

    def __init__(
        self,
        name: str,
        outputs: int = 1,
        loss: Literal["mse", "l1", "huber"] = "mse",
        source: str | None = None,
        target: str | None = None,
    ) -> None:
        given = {"name": name, "outputs": outputs, "source": source, "target": target}
        for field, value in {**given, "loss_name": loss}.items():
            object.__setattr__(self, field, value)
        super().__post_init__()
        if outputs < 1:
            raise ValueError(f"Task {name!r} needs at least 1 output, got {outputs}.")
        if loss not in _LOSSES:
            raise ValueError(
                f"The `loss` of task {name!r} must be one of {', '.join(_LOSSES)}, got {loss!r}."
            )

    def record(self) -> dict[str, Any]:
        """Return the task in plain types, by the arguments of the constructor."""
        found = super().record()
        loss = found.pop("loss_name")
        return {**found, "loss": loss}

    @property
    def answers(self) -> str:
        """How many numbers."""
        return f"{self.outputs} number{'s' if self.outputs > 1 else ''}"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a linear layer."""
        return linear_head(vector_length(num_features), self.outputs)

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, outputs)``, NaN where there is none."""
        wanted = f"numbers of shape (N, {self.outputs}){', or (N,)' if self.outputs == 1 else ''}"
        wanted += ", NaN where there is none"
        if not isinstance(target, Tensor):
            raise ValueError(  # noqa: TRY004 - what the data hold, as those below
                f"The targets of task {self.name!r} are a {type(target).__name__}; expected "
                f"{wanted}, as a tensor."
            )
        alone = target.ndim == 1 and self.outputs == 1
        if target.is_complex() or not (alone or target.shape[1:] == (self.outputs,)):
            raise ValueError(
                f"The targets of task {self.name!r} are of shape {tuple(target.shape)}; expected "
                f"{wanted}."
            )
        found = target.float().view(-1, self.outputs)
        if not checked and found.isinf().any():
            first = int(found.isinf().any(1).nonzero()[0])
            raise ValueError(
                f"The target of task {self.name!r} is infinite for sample {first} of the batch; "
                f"expected {wanted}."
            )
        return found

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all known numbers.

        Args:
            output: ``(N, outputs)``.
            target: ``(N, outputs)``.
        """
        missing = target.isnan()
        known = torch.where(missing, output.detach(), target)
        terms = _LOSSES[self.loss_name](output, known, reduction="none")
        return terms.sum() / (~missing).sum().clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many numbers are known."""
        return (~target.isnan()).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum of the absolute errors."""
        return [(output.float() - target).abs().nansum()]

    def scores(self) -> dict[str, Metric]:
        """Return mean absolute error, root mean squared error and R2."""
        errors = {"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}
        return {**errors, "r2": R2(self.outputs)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Let a metric see the known numbers of a batch."""
        if isinstance(metric, R2):
            metric.update(output, target)
            return
        known = ~target.isnan()
        metric.update(output.float()[known], target[known])

    def answer(self, output: Tensor) -> Tensor:
        """Return the numbers ``(N, outputs)``."""
        return output.float()

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the numbers, separated by semicolons."""
        del names
        return [{"value": "; ".join(f"{v:.6g}" for v in row)} for row in answer.cpu().tolist()]


class R2(Metric):
    """One minus the squared errors over those of the mean: the mean over the outputs.

    As torchmetrics' ``R2Score`` with targets that may be missing (NaN), each output by itself. Not
    a number while there are fewer than two targets, or no two that differ.

    Args:
        outputs: How many numbers a sample has.
    """

    full_state_update = False
    higher_is_better = True
    sums: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        # in double precision: the variance is a difference of large sums
        zeros = torch.zeros(4, outputs, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Count a batch of outputs and targets ``(N, outputs)``."""
        known = ~target.isnan()
        true = target.double().masked_fill(~known, 0.0)
        error = (output.double() - true).masked_fill(~known, 0.0)
        parts = (known.double(), true, true**2, error**2)
        self.sums = self.sums + torch.stack([part.sum(0) for part in parts])

    def compute(self) -> Tensor:
        """Return R2, a scalar."""
        count, total, squares, residual = self.sums
        spread = squares - total**2 / count
        found: Tensor = 1 - residual / spread
        return found[(count > 1) & (spread > 0)].mean().float()
