"""A task: the one description that data, heads, losses and scores share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn
from torchmetrics import Metric

from tl.tasks.pictures import Pictures

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
Reads = Literal["vector", "maps", "tokens"]
Direction = Literal["min", "max"]


class Task(ABC):
    """A head, a loss, scores, and how predictions are shown.

    Subclasses are frozen dataclasses whose fields are plain types, so that checkpoints can store
    them. ``Task(name, num_classes)`` is a :class:`~tl.tasks.Classification`.

    Attributes:
        name: Name in metrics (``val/<name>/acc``) and heads; letters, digits, ``_`` and ``-``.
        source: Name of the data source that the task reads in a batch of several; ``None`` if the
            batch has one source.
        target: Key of the targets in a source that has several; ``None`` if they are one tensor.
        shares: Name of another task whose head this one uses, for instance to evaluate in a second
            domain; ``None`` if it has its own head.
        trains: Whether the task trains. If not, no training loss, penalty or balancer sees its
            targets: it is only evaluated, its scores are logged, and ``val/loss``, the means over
            tasks and the choice of the best checkpoint leave it out.
        kind: Name of the class in checkpoints; by default the name of the class itself.
        reads: What the head reads from the backbone: ``vector``, ``maps`` or ``tokens``.
        on_pixels: Whether targets lie on the pixels, as ``(N, H, W)`` or ``(N, C, H, W)``: the data
            then crop, flip and resize them with the images.
        counts_samples: Whether `present` counts samples, not pixels, tokens or queries.
        resizes: How such targets are resized; ``nearest`` does not mix values.
        score: The score that decides which run is better.
        higher_is_better: Whether a higher value of it is better.
        directions: Whether each score is better at its maximum or minimum.
        tallied: Scores that are sums over samples, and are logged in training too.
        accuracy: The one of `tallied` that is the fraction of correct predictions, for balancers
            that weight tasks by it; ``None`` if predictions are not right or wrong.
        columns: Columns of ``predictions.csv`` that :meth:`cells` fills.
        smooths: Whether the loss supports label smoothing.
        supervised: Whether the loss reads labels; if not, it also trains where they are withheld.
    """

    name: str
    source: str | None
    target: str | None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str]
    reads: ClassVar[Reads] = "vector"
    on_pixels: ClassVar[bool] = False
    counts_samples: ClassVar[bool] = True
    resizes: ClassVar[Literal["nearest", "bilinear"]] = "nearest"
    score: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    directions: ClassVar[Mapping[str, Direction]] = {}
    tallied: ClassVar[tuple[str, ...]] = ()
    accuracy: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ()
    smooths: ClassVar[bool] = False
    supervised: ClassVar[bool] = True

    def __new__(cls, *given: Any, **named: Any) -> Task:  # noqa: ANN401, PYI034 - as before kinds
        """Build a classification if no kind is named."""
        if cls is Task:
            from tl.tasks.classification import Classification  # noqa: PLC0415 - imports this

            cls = Classification  # noqa: PLW0642
        return object.__new__(cls.variant(*given, **named))

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - as Python's own
        """Name the kind of a subclass after its class, unless it has a name."""
        super().__init_subclass__(**kwargs)
        # inherited, it would bring back the base class from a checkpoint, with another loss
        if "kind" not in vars(cls) and not cls.__name__.startswith("_"):
            cls.kind = cls.__name__

    @classmethod
    def variant(cls, *given: Any, **named: Any) -> type[Task]:  # noqa: ANN401
        """Return the class for these arguments; a `__new__` would hide them from the CLI."""
        del given, named
        return cls

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"A task's name has letters, digits, '_' and '-' only, got {self.name!r}."
            )

    def record(self) -> dict[str, Any]:
        """Return the task in plain types, by the arguments of its constructor.

        :func:`tl.tasks.as_task` rebuilds it. `shares` and `trains` are left out at their defaults.
        A field ``loss_name`` is the argument ``loss``, which as a field would hide the method.
        """
        named = asdict(self).items()  # type: ignore[call-overload]
        fields = {"loss" if name == "loss_name" else name: value for name, value in named}
        found = {"kind": self.kind, **fields}
        usual = {"shares": None, "trains": True}
        return {key: value for key, value in found.items() if value is not usual.get(key, ...)}

    def read_from(self, source: str | None) -> Self:
        """Return the same task on another source."""
        fields = {**self.record(), "source": source}
        del fields["kind"]
        return type(self)(**fields)

    @property
    @abstractmethod
    def answers(self) -> str:
        """What a head predicts, such as ``10 classes``; tasks that share a head agree in it."""

    @abstractmethod
    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a new head on what the task reads.

        The head is called as ``head(vector)`` with ``(N, D)``, as ``head(tokens)`` with
        ``(N, L, D)``, or as ``head(maps, size)`` with maps ``(N, C_s, H_s, W_s)`` of each stage,
        the lowest resolution last, and the height and width of the images in pixels.

        Args:
            num_features: ``D``, the length of a vector or token; for ``reads = "maps"`` the
                channels ``C_s`` of each map. :func:`tl.tasks.heads.vector_length` and
                :func:`tl.tasks.heads.map_channels` distinguish them.
        """

    @abstractmethod
    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return the targets of a batch in the form that loss and scores expect.

        Args:
            target: Targets as the data provide them.
            checked: Skip the checks, which would synchronise with an accelerator, because the
                targets have already passed them.

        Raises:
            ValueError: If a target does not fit the task; names the first one.
        """

    def check(self, target: object) -> Tensor:
        """Return targets as :meth:`settle` does, and refuse those of a doubtful type too.

        Data call it once for all targets, or a run for those of its first batch.
        """
        return self.settle(target)

    def tensor_of(
        self, target: object, expected: str, fits: Callable[[tuple[int, ...]], bool]
    ) -> Tensor:
        """Return targets that are a real tensor of a suitable shape.

        Args:
            target: Targets as the data provide them.
            expected: What they must be, for the message.
            fits: Returns whether a shape is suitable.

        Raises:
            ValueError: If they are not; names type or shape.
        """
        if not isinstance(target, Tensor):
            raise ValueError(  # noqa: TRY004 - a fault of the data
                f"The targets of task {self.name!r} are a {type(target).__name__}; expected "
                f"{expected}, as a tensor."
            )
        shape = tuple(target.shape)
        if target.is_complex() or not fits(shape):
            kind = "complex numbers " if target.is_complex() else ""
            raise ValueError(
                f"The targets of task {self.name!r} are {kind}of shape {shape}; expected "
                f"{expected}."
            )
        return target

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over what has a target; 0, with a gradient of 0, if nothing has.

        Args:
            output: Output of the head, in float32.
            target: Targets from :meth:`settle`.
        """

    def training_loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Return the loss that training minimises; only classifications use label smoothing."""
        return self.loss(output, target)

    def flipped(self, target: Tensor, dim: int) -> Tensor:
        """Return the values that targets on pixels take in a flipped image.

        The data move the pixels; this changes values that point along an axis, such as the
        x-component of a surface normal. It must act on each pixel independently.

        Args:
            target: ``(N, H, W)`` or ``(N, C, H, W)``.
            dim: The flipped dimension: -1 is left-right; -2 is top-bottom, which occurs only in the
                reflected border of a crop.
        """
        return target

    def enlarged(self, target: Tensor, factor: Tensor) -> Tensor:
        """Return targets on pixels with the values that they have in an enlarged image.

        The data enlarge the maps; this changes values that depend on the size at which things are
        seen, as a depth does. It must act on each pixel alone.

        Args:
            target: ``(N, H, W)`` or ``(N, C, H, W)``.
            factor: How many times larger each image is, of the shape ``(N, 1, ...)`` that
                multiplies targets.
        """
        del factor
        return target

    def truth(self, target: Tensor) -> Tensor:
        """Return what predictions are compared with: hard targets in place of soft ones."""
        return target

    @abstractmethod
    def present(self, target: Tensor) -> Tensor:
        """Return how many values of :meth:`truth` there are, a scalar."""

    def labelled(self, target: Tensor) -> Tensor:
        """Return how many samples have a target, a scalar.

        Args:
            target: Targets from :meth:`truth`.
        """
        return self.present(target)

    def strata(self, target: Tensor) -> Tensor | None:
        """Return the class of each sample ``(N,)`` int64, negative without a label.

        Balanced sampling uses it. ``None`` if samples do not have exactly one class each.

        Args:
            target: Targets from :meth:`settle`.
        """
        return None

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum over all labelled samples of each score in ``tallied``, scalars."""
        return []

    @property
    def right_or_wrong(self) -> bool:
        """Whether answers are, so that balancers may weight tasks by the share of right ones."""
        return self.accuracy in self.tallied

    def right(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many of the present values are answered right, where answers are."""
        return dict(zip(self.tallied, self.tally(output, target), strict=True))[str(self.accuracy)]

    @abstractmethod
    def scores(self) -> dict[str, Metric]:
        """Return new metrics by name; ``score`` is one of them, unless the loss decides."""

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric from :meth:`scores` with a batch."""
        metric.update(output, target)

    @abstractmethod
    def answer(self, output: Tensor) -> Tensor:
        """Return the predictions for outputs of the head, one row per sample."""

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return one row of ``predictions.csv`` per prediction, by column; by default no columns.

        Args:
            answer: Predictions from :meth:`answer`.
            names: Class names, if the data have them.
        """
        del names
        return [{} for _ in answer]

    def pictures(self, most: int) -> Pictures | None:
        """Return a collector of pictures of a split for TensorBoard; ``None`` shows nothing.

        Args:
            most: Maximum number of individual samples to show.
        """
        return None
