"""Regression: one or several numbers per sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanAbsoluteError, MeanSquaredError, Metric

from tl.batch import Inputs, at_least_float32
from tl.counting import counted
from tl.tasks.base import Direction, Task
from tl.tasks.figures import scatter_figure
from tl.tasks.heads import linear_head, vector_length
from tl.tasks.pictures import Pictures, View, Worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 2000  # of a scatter plot
_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
}


@dataclass(frozen=True, init=False)
class Regression(Task):
    """One or several numbers per sample, with R2, mean absolute and root mean squared error.

    Targets are ``(N,)`` or ``(N, outputs)``, NaN if missing: each known number has the same weight
    in loss and errors. R2 is the mean over the outputs.

    Args:
        name: Name in metrics (``val/<name>/mae``) and heads; letters, digits, ``_`` and ``-``.
        outputs: Numbers per sample, 1 or more.
        loss: ``mse``, ``l1`` or ``huber`` (Huber, 1964, with a threshold of 1).
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If `outputs` is below 1 or the loss is unknown.
    """

    name: str
    outputs: int
    loss_name: str
    source: str | None
    target: str | None
    shares: str | None
    trains: bool
    kind: ClassVar[str] = "regression"
    score: ClassVar[str] = "mae"
    directions: ClassVar[Mapping[str, Direction]] = {"mae": "min", "rmse": "min", "r2": "max"}
    tallied: ClassVar[tuple[str, ...]] = ("mae",)
    columns: ClassVar[tuple[str, ...]] = ("value",)

    def __init__(
        self,
        name: str,
        outputs: int = 1,
        loss: Literal["mse", "l1", "huber"] = "mse",
        source: str | None = None,
        target: str | None = None,
        shares: str | None = None,
        trains: bool = True,
    ) -> None:
        given = {"name": name, "outputs": outputs, "source": source, "target": target}
        given |= {"loss_name": loss, "shares": shares, "trains": trains}
        for field, value in given.items():
            object.__setattr__(self, field, value)
        super().__post_init__()
        if outputs < 1:
            raise ValueError(f"Task {name!r} needs at least 1 output, got {outputs}.")
        if loss not in _LOSSES:
            raise ValueError(
                f"The `loss` of task {name!r} must be one of {', '.join(_LOSSES)}, got {loss!r}."
            )

    @property
    def answers(self) -> str:
        """The number of outputs."""
        return counted(self.outputs, "number")

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a linear layer."""
        return linear_head(vector_length(num_features), self.outputs)

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, outputs)``, NaN if missing."""
        wanted = f"numbers of shape (N, {self.outputs}){', or (N,)' if self.outputs == 1 else ''}"
        wanted += ", NaN if missing"
        shapes = [(self.outputs,), ()] if self.outputs == 1 else [(self.outputs,)]
        given = self.tensor_of(target, wanted, lambda shape: bool(shape) and shape[1:] in shapes)
        found = at_least_float32(given).reshape(-1, self.outputs)
        if not checked and found.isinf().any():
            first = int(found.isinf().any(1).nonzero()[0])
            raise ValueError(
                f"The target of task {self.name!r} is infinite for sample {first} of the batch; "
                f"expected {wanted}."
            )
        return found

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all known numbers of ``(N, outputs)``."""
        if output.shape != target.shape:  # it would be broadcast
            raise ValueError(
                f"The head of task {self.name!r} returns shape {tuple(output.shape)}; expected "
                f"{tuple(target.shape)}, as the targets."
            )
        missing = target.isnan()
        known = torch.where(missing, output.detach(), target)
        terms = _LOSSES[self.loss_name](output, known, reduction="none")
        return terms.sum() / (~missing).sum().clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many numbers are known."""
        return (~target.isnan()).sum()

    def labelled(self, target: Tensor) -> Tensor:
        """Return how many samples have a known number."""
        return (~target.isnan()).any(1).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum of the absolute errors."""
        return [(at_least_float32(output) - target).abs().nansum()]

    def scores(self) -> dict[str, Metric]:
        """Return mean absolute error, root mean squared error and R2."""
        errors = {"mae": MeanAbsoluteError(), "rmse": MeanSquaredError(squared=False)}
        return {**errors, "r2": R2(self.outputs)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with the known numbers of a batch."""
        if isinstance(metric, R2):
            metric.update(output, target)
            return
        known = ~target.isnan()
        metric.update(at_least_float32(output)[known], target[known])

    def answer(self, output: Tensor) -> Tensor:
        """Return the numbers ``(N, outputs)``."""
        return at_least_float32(output)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the numbers, separated by semicolons."""
        return [{"value": "; ".join(f"{v:.6g}" for v in row)} for row in answer.cpu().tolist()]

    def pictures(self, most: int) -> Pictures | None:
        """Return predictions against the truth, and the samples with the largest errors."""
        return NumberPictures(most)


class R2(Metric):
    """Coefficient of determination, averaged over the outputs.

    Like torchmetrics' ``R2Score``, but targets may be missing (NaN), separately for each output.
    NaN while there are fewer than two targets, or none that differ.

    Args:
        outputs: Numbers per sample.
    """

    full_state_update = False
    higher_is_better = True
    sums: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        # in double precision: the variance is a difference of large sums
        zeros = torch.zeros(4, outputs, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        # which tell equal targets apart from rounding
        most = torch.full((outputs,), torch.inf, dtype=torch.float64)
        self.add_state("least", most, dist_reduce_fx="min")
        self.add_state("most", -most, dist_reduce_fx="max")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add a batch of outputs and targets ``(N, outputs)``."""
        known = ~target.isnan()
        true = target.double().masked_fill(~known, 0.0)
        if len(target):
            self.least = self.least.minimum(true.masked_fill(~known, torch.inf).amin(0))
            self.most = self.most.maximum(true.masked_fill(~known, -torch.inf).amax(0))
        error = (output.double() - true).masked_fill(~known, 0.0)
        parts = (known.double(), true, true**2, error**2)
        self.sums = self.sums + torch.stack([part.sum(0) for part in parts])

    def compute(self) -> Tensor:
        """Return R2, a scalar."""
        count, total, squares, residual = self.sums
        spread = squares - total**2 / count
        found: Tensor = 1 - residual / spread
        differ = (self.most > self.least) & (spread > 0)
        return found[(count > 1) & differ].mean().float()


class NumberPictures(Pictures):
    """Predictions against targets, and the samples with the largest errors.

    If there are too many points, a random subset of those in this process is drawn.

    Args:
        most: Maximum number of samples to keep.
    """

    def __init__(self, most: int) -> None:
        self.worst = Worst(most)
        self._points: Tensor | None = None  # (N, 1 + 2 K): a random number, predictions, truth
        self._random = torch.Generator().manual_seed(0)

    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Add numbers ``(N, K)``, NaN if missing."""
        numbers, target = output.detach().float().cpu(), target.float().cpu()
        drawn = torch.rand(len(numbers), 1, generator=self._random)
        points = torch.cat([drawn, numbers, target], 1)[~target.isnan().all(1)]
        if self._points is not None:
            points = torch.cat([self._points, points])
        self._points = points[points[:, 0].argsort()[:_POINTS]]
        errors = (numbers - target).abs().nan_to_num(0.0).amax(1)
        self.worst.add(inputs, errors, numbers, target)

    def figures(self, view: View) -> dict[str, Figure]:
        """Return ``scatter`` and ``mistakes``; nothing if no number is known."""
        if self._points is None or not len(self._points):
            return {}
        predicted, true = self._points[:, 1:].chunk(2, 1)

        def caption(output: Tensor, target: Tensor) -> str:
            said = ("; ".join(f"{value:.3g}" for value in part) for part in (target, output))
            return "{}\n→ {}".format(*said)

        points = scatter_figure(predicted, true, view.title)
        return {"scatter": points, **self.worst.figures(view, caption)}
