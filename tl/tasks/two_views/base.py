"""Tasks that learn from two views of the same images, without labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, Metric

from tl.tasks.base import Direction, Task
from tl.tasks.heads import vector_length
from tl.tasks.two_views.gather import gathered
from tl.tasks.two_views.projector import Passes, Projector, mlp


@dataclass(frozen=True)
class TwoViews(Task):
    """A self-supervised task: views of one image agree, those of others differ.

    The source gives two views of each image (``learns`` of an image source); labels are never read.
    The head is a projector, which no ``init_from`` loads. Where several processes train, each
    computes the loss of the joint batch; batch norm averages over each process's own images.

    Subclasses are frozen dataclasses that add the numbers of their method, by name only.

    Args:
        name: Name in metrics and of the projector; a source gives its own name.
        hidden: Width of the projector's hidden layers.
        size: Length of its output.
        passes: Whether both views go through backbone and projector in ``one`` pass, so that batch
            norm averages over both, or in ``two``, as in the published codes.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several; only counted, never read.
        shares: Name of another task whose projector this one uses.
        trains: Whether the task trains; if not, it is only evaluated.

    Attributes:
        layers: Number of the projector's hidden layers.
        positive: Names of the method's numbers that must be positive.

    Raises:
        ValueError: If a number is out of range.
    """

    name: str = "views"
    hidden: int = 2048
    size: int = 2048
    passes: Passes = "one"
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    layers: ClassVar[int] = 1
    positive: ClassVar[tuple[str, ...]] = ()
    supervised: ClassVar[bool] = False
    directions: ClassVar[Mapping[str, Direction]] = {"spread": "max"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.passes not in get_args(Passes):
            raise ValueError(f"`passes` must be 'one' or 'two', got {self.passes!r}.")
        for name, value in (("hidden", self.hidden), ("size", self.size)):
            if value < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {value}.")
        for name in self.positive:
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise ValueError(f"`{name}` must be positive, got {value}.")

    @property
    def answers(self) -> str:
        """What the head gives."""
        return f"{self.size} numbers per view for {type(self).__name__}"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a new projector: features ``(2N, D)`` to ``(2N, size)``."""
        sizes = (vector_length(num_features), *[self.hidden] * self.layers, self.size)
        return Projector(mlp(*sizes), self.passes)

    @abstractmethod
    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of the outputs of both views, each ``(N, size)``, as a scalar."""

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return ``True`` for each image ``(N,)``: no label is looked at."""
        given = self.tensor_of(target, "one row per image", bool)
        return torch.ones(len(given), dtype=torch.bool, device=given.device)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of both views, of the joint batch of all processes in training.

        Args:
            output: ``(2N, size)``, the first view of all images, then the second.
            target: ``(N,)`` from :meth:`settle`.

        Raises:
            ValueError: If there are not two outputs per image, or one image only in training.
        """
        first, second = self._views(output, target)
        first, second = gathered(first), gathered(second)
        if len(first) < 2:  # noqa: PLR2004 - what others are there to differ from?
            return self.single(output)
        with torch.autocast(output.device.type, enabled=False):  # products of whole batches
            return self.agreement(first, second)

    def single(self, output: Tensor) -> Tensor:
        """Return the loss of a single image in an evaluation: 0, which `present` leaves out.

        Raises:
            ValueError: In training.
        """
        if output.requires_grad:
            raise ValueError(
                f"Task {self.name!r} compares the images of a batch, and this batch has one; set "
                "`batch_size` to 2 or more."
            )
        return output.sum() * 0.0

    def training_loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Return the loss."""
        return self.loss(output, target)

    def _views(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if len(output) != 2 * len(target):
            raise ValueError(
                f"Task {self.name!r} learns from two views of each image, and got {len(output)} "
                f"outputs for {len(target)} images; set `learns` in its source, which then gives "
                "two."
            )
        first, second = output.chunk(2)
        return first, second

    def present(self, target: Tensor) -> Tensor:
        """Return how many images there are; a single one cannot be compared."""
        return target.sum() * (len(target) > 1)

    def scores(self) -> dict[str, Metric]:
        """Return the spread of the outputs: 1 if they fill all directions alike, 0 if collapsed."""
        return {"spread": MeanMetric()}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update the spread: the mean deviation of normalised outputs, times ``sqrt(size)``."""
        if len(target) > 1:
            unit = functional.normalize(self._views(output, target)[0].float())
            metric.update(unit.std(0).mean() * unit.shape[1] ** 0.5, len(target))

    def answer(self, output: Tensor) -> Tensor:
        """Refuse to answer: a projection tells nobody anything.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"Task {self.name!r} is self-supervised and predicts nothing; fine-tune the network "
            "with `init_from`, or take its features with `tl.load(...).embed(...)`."
        )

    def twin(self, head: nn.Module) -> nn.Module | None:
        """Return the part of the head that has a momentum twin, with the backbone's.

        The outputs of these twins ``(2N, size)`` are then the targets of the loss. ``None``, the
        default, for methods without.
        """
        del head
        return None

    def momentum_at(self, progress: float) -> float:
        """Return the share of a twin that a step keeps.

        Args:
            progress: Share of the run's steps that are done, 0 to 1.
        """
        del progress
        return 1.0
