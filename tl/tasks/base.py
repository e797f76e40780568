"""What is predicted: the one description that data, heads, losses and scores share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal, Self, cast

from torch import Tensor, nn
from torchmetrics import Metric

from tl.tasks.pictures import Pictures

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
Reads = Literal["vector", "maps", "tokens"]
Direction = Literal["min", "max"]


class Task(ABC):
    """A head, a loss, scores, and how answers are shown.

    Subclasses are frozen dataclasses whose fields are plain types, so that checkpoints can keep
    them. ``Task(name, num_classes)`` is a :class:`~tl.tasks.Classification`.

    Attributes:
        name: Name in metrics (``val/<name>/acc``) and heads; letters, digits, ``_`` and ``-``.
        source: Name of the data source that the task reads in a batch of several; ``None`` where
            the batch has one source.
        target: Key of the targets in a source that carries several; ``None`` where they are one
            tensor.
        shares: Name of another task whose head this one uses, as to evaluate in a second domain;
            ``None`` where it has a head of its own.
        trains: Whether its targets train. Where they do not, no training loss, penalty or balancer
            sees them: the task is evaluated only, its scores are logged, and ``val/loss``, the
            means over tasks and what chooses a run leave it out.
        kind: Name of the class in checkpoints.
        reads: What the head takes from the backbone: ``vector``, ``maps`` or ``tokens``.
        on_pixels: Whether targets lie on the pixels, as ``(N, H, W)`` or ``(N, C, H, W)``: the data
            then crop, mirror and resize them with the images.
        resizes: How such targets change size; ``nearest`` mixes no values.
        score: The score that decides which run is better.
        higher_is_better: Whether a higher one is.
        directions: Which way each of its scores is better.
        tallied: Scores that are sums over samples, and are logged in training too.
        accuracy: The one of `tallied` that is the share of right answers, for balancers that weight
            tasks by it; ``None`` where answers are not right or wrong.
        columns: Columns of ``predictions.csv`` that :meth:`cells` fills.
        smooths: Whether label smoothing means anything to its loss.
    """

    name: str
    source: str | None
    target: str | None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str]
    reads: ClassVar[Reads] = "vector"
    on_pixels: ClassVar[bool] = False
    resizes: ClassVar[Literal["nearest", "bilinear"]] = "nearest"
    score: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    directions: ClassVar[Mapping[str, Direction]] = {}
    tallied: ClassVar[tuple[str, ...]] = ()
    accuracy: ClassVar[str | None] = None
    columns: ClassVar[tuple[str, ...]] = ()
    smooths: ClassVar[bool] = False

    def __new__(cls, *given: Any, **named: Any) -> Task:  # noqa: ANN401, PYI034 - as before kinds
        """Make a classification where no kind is named."""
        if cls is Task:
            from tl.tasks.classification import Classification  # noqa: PLC0415 - made of this

            cls = Classification  # noqa: PLW0642
        return object.__new__(cls.variant(*given, **named))

    @classmethod
    def variant(cls, *given: Any, **named: Any) -> type[Task]:  # noqa: ANN401
        """Return the class for these arguments; a `__new__` would hide them from the parser."""
        del given, named
        return cls

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"A task's name has letters, digits, '_' and '-' only, got {self.name!r}."
            )

    def record(self) -> dict[str, Any]:
        """Return the task in plain types, from which :func:`as_task` makes it again.

        What is as for most tasks is left out: `shares` and `trains`.
        """
        found = {"kind": self.kind, **asdict(self)}  # type: ignore[call-overload]
        usual = {"shares": None, "trains": True}
        return {key: value for key, value in found.items() if value is not usual.get(key, ...)}

    def read_from(self, source: str | None) -> Self:
        """Return the same task on another source."""
        return cast("Self", as_task({**self.record(), "source": source}))

    @property
    @abstractmethod
    def answers(self) -> str:
        """What a head gives, such as ``10 classes``: tasks that differ in it cannot share one."""

    @abstractmethod
    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a new head on what the task reads.

        It is called as ``head(vector)`` with ``(N, D)``, as ``head(tokens)`` with ``(N, L, D)``, or
        as ``head(maps, size)`` with maps ``(N, C_s, H_s, W_s)`` of each stage, the lowest
        resolution last, and the height and width of the images.

        Args:
            num_features: ``D``, the length of a vector or token; for ``reads = "maps"`` the
                channels ``C_s`` of each map. :func:`tl.tasks.heads.vector_length` and
                :func:`tl.tasks.heads.map_channels` tell them apart.
        """

    @abstractmethod
    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return the targets of a batch in the form that loss and scores take.

        Args:
            target: What the data give.
            checked: Leave out the checks, which wait for an accelerator; for what passed them
                before.

        Raises:
            ValueError: If a target is not one of this task; names the first.
        """

    def check(self, target: object) -> Tensor:
        """Return targets as :meth:`settle` does, each of them checked."""
        return self.settle(target)

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over what has a target; 0, with a gradient of 0, if nothing has.

        Args:
            output: What the head gives, in float32.
            target: As :meth:`settle` gives it.
        """

    def training_loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Return the loss that training minimises; label smoothing is for classifications."""
        del label_smoothing
        return self.loss(output, target)

    def flipped(self, target: Tensor, dim: int) -> Tensor:
        """Return targets on pixels with the values that they have in a mirror image.

        The data move the pixels; this changes values that point along an axis, as the x-component
        of a surface normal does. It must act on each pixel alone.

        Args:
            target: ``(N, H, W)`` or ``(N, C, H, W)``.
            dim: The mirrored dimension: -1 for left to right; -2 for top to bottom, which only the
                reflected border of a crop has.
        """
        del dim
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
        """Return what answers are compared with: the targets themselves, unless these are soft."""
        return target

    @abstractmethod
    def present(self, target: Tensor) -> Tensor:
        """Return how many values of :meth:`truth` there are, a scalar."""

    def labelled(self, target: Tensor) -> Tensor:
        """Return how many samples have a target, a scalar.

        Args:
            target: As :meth:`truth` gives it.
        """
        return self.present(target)

    def strata(self, target: Tensor) -> Tensor | None:
        """Return the class of each sample ``(N,)`` int64, negative without a label, if it has one.

        Balanced sampling draws by it. ``None``: samples are not of one class each.

        Args:
            target: As :meth:`settle` gives it.
        """
        del target
        return None

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum over all present samples of each score in ``tallied``."""
        del output, target
        return []

    @abstractmethod
    def scores(self) -> dict[str, Metric]:
        """Return new metrics by name; ``score`` is one of them, unless the loss decides."""

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Let a metric of :meth:`scores` see a batch."""
        metric.update(output, target)

    @abstractmethod
    def answer(self, output: Tensor) -> Tensor:
        """Return what ``predict`` gives for outputs of the head, a row for each sample."""

    @abstractmethod
    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return a row for each answer of a batch, by the column of ``predictions.csv``.

        Args:
            answer: As :meth:`answer` gives it.
            names: Names of the classes, where the data have them.
        """

    def pictures(self, most: int) -> Pictures | None:
        """Return what collects pictures of a split for TensorBoard; ``None`` shows nothing.

        Args:
            most: How many single samples it may show.
        """
        del most
        return None


def deciding_score(tasks: Iterable[Task]) -> tuple[str, bool]:
    """Return the score that runs are chosen by, and whether a higher one is better.

    That is the one that decides for each of the tasks that train, else ``loss``.
    """
    scores = {(task.score, task.higher_is_better) for task in tasks if task.trains}
    return scores.pop() if len(scores) == 1 else ("loss", False)


def score_directions() -> dict[str, Direction]:
    """Return which way the scores of all kinds of tasks that are imported are better, by name."""
    found: dict[str, Direction] = {"loss": "min"}
    for kind in _kinds().values():
        found = {**kind.directions, **found}
    return found


def as_task(task: Task | Mapping[str, Any]) -> Task:
    """Return a task, also from the plain dict that checkpoints keep of it.

    Raises:
        ValueError: If it is of a kind that this version does not know.
    """
    if isinstance(task, Task):
        return task
    fields = dict(task)
    kind = fields.pop("kind", "classification")  # version 0.1.0 knew no other
    known = _kinds()
    if kind not in known:
        raise ValueError(
            f"Task {fields.get('name')!r} is of the kind {kind!r}, which this version of tl does "
            f"not know; it knows {', '.join(sorted(known))}. If it is a class of your own, import "
            "it first."
        )
    return known[kind](**fields)


def _kinds() -> dict[str, type[Task]]:
    """Return all kinds of tasks that are imported, by the name that checkpoints have for them."""
    import tl.tasks  # noqa: PLC0415 - makes our own known

    del tl
    found: dict[str, type[Task]] = {}
    kinds: list[Any] = list(Task.__subclasses__())
    while kinds:
        kind = kinds.pop(0)
        if "kind" in vars(kind):
            found.setdefault(kind.kind, kind)
        kinds += kind.__subclasses__()
    return found
