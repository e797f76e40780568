"""Co-Tuning: reuse the source's head through the relation of its classes to the target's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.batch import Inputs, at_least_float32
from tl.checkpoints.files import listed
from tl.transfer.network import SourceHead, SourceNetwork
from tl.transfer.penalties.base import (
    Penalty,
    Start,
    Step,
    nothing,
    only_classification,
    only_task,
    require_checkpoint,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_relations(
    source: nn.Module, batches: Iterable[tuple[Inputs, Tensor]], num_classes: int
) -> Tensor:
    """Average the source's class probabilities over the images of each target class.

    ``p(y_s | y_t = y) = 1 / |D_y| * sum_{x in D_y} f_0(x)`` (You et al., 2020, the direct
    approach).

    Args:
        source: Images ``(N, 3, H, W)`` to logits ``(N, S)``.
        batches: Images and target labels ``(N,)``; negative ones are skipped.
        num_classes: Target classes.

    Returns:
        A table ``(num_classes, S)`` whose rows sum to 1, float32.

    Raises:
        ValueError: If a target class has no image.
    """
    sums, counts = None, None
    for images, given in batches:
        target = given.long()
        labelled = target >= 0
        with torch.no_grad():
            answers = source(images).double().softmax(1)[labelled]
        if sums is None or counts is None:
            sums = answers.new_zeros(num_classes, answers.shape[1])
            counts = answers.new_zeros(num_classes)
        sums.index_add_(0, target[labelled], answers)
        counts += torch.bincount(target[labelled], minlength=num_classes)
    empty = range(num_classes) if counts is None else (counts == 0).nonzero().flatten().tolist()
    if sums is None or counts is None or len(empty):
        raise ValueError(
            f"Co-Tuning relates each target class to the source's by its images, but {len(empty)} "
            f"of {num_classes} classes have none: {listed(map(str, empty))}; use more "
            "labels (`label_fraction`)."
        )
    table: Tensor = (sums / counts[:, None]).float()
    return table


class CoTuning(Penalty):
    """Train the source's head too, on source-class probabilities of the target's labels.

    ``weight * CE(p(y_s | y_t), f_s(x))`` where ``f_s`` is the source's head on the trained
    features, and ``p(y_s | y_t)`` the relation of classes, estimated once at the start (You et al.,
    2020, "Co-Tuning for Transfer Learning"). The relation uses their direct approach, which needs
    no source data. A cross-entropy with soft targets does not start at 0. TensorBoard shows the
    relation as a picture, ``transfer/class_relations``.

    Differences from the authors' code: their script uses the reverse approach, a logistic
    regression from source to target classes, chosen and calibrated on the target's validation
    images; it multiplies the source's logits by 0.884 (calibrated for their ImageNet network); it
    uses training and validation images for the relation, here only training ones; and its new head
    trains at 10 times the rate.

    Args:
        weight: ``lambda``, 0 or more; the default is the authors' code's.
        task: Target task, if there are several.
        source_task: Source task whose head to use, if there are several.

    Raises:
        ValueError: If `weight` is negative; at the run's start, without a source checkpoint, or if
            a target class has no image.
    """

    relations: Tensor

    def __init__(
        self, weight: float = 2.3, task: str | None = None, source_task: str | None = None
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"`weight` must be 0 or more, got {weight}.")
        self.weight = weight
        self.task = task
        self.source_task = source_task
        self.head = SourceHead(trains=True)
        self.register_buffer("relations", torch.zeros(0, 0))
        self._network: list[SourceNetwork] = []  # between `prepare` and `start`; never saved
        self._names: dict[str, list[str]] = {"source": [], "target": []}

    def prepare(self, start: Start) -> None:
        """Load the source."""
        path = require_checkpoint(self, start)
        task = only_classification(self, self.task, start)
        source = SourceNetwork(start.backbone)
        head = source.load(path, self.source_task, start.rename)
        self.head.set(head)
        self._network = [source]
        names = start.class_names.get(task, ())
        self._names = {"source": list(head.class_names), "target": list(names)}

    def start(self, start: Start) -> None:
        """Relate the classes by the source's predictions on the target's training images."""
        task = only_classification(self, self.task, start)
        source = self._network.pop().to(start.device, torch.float32)
        relations = class_relations(source, start.batches(task), start.classes[task])
        self.relations = relations.to(start.device)

    def forward(self, step: Step) -> Tensor:
        """Return the term, averaged over the labelled images."""
        task = only_task(self, self.task, step.heads.keys())
        if task not in step.logits:
            return nothing(step, self.head)
        target = step.targets[task]
        answers = at_least_float32(self.head(step.features[step.sources[task]]))
        terms = functional.cross_entropy(
            answers, self.relations[target.clamp(min=0)], reduction="none"
        )
        labelled = target >= 0  # masked: indexing would wait for the device
        return self.weight * (terms * labelled).sum() / labelled.sum().clamp(min=1)

    def figures(self) -> dict[str, Figure]:
        """Return the relation of classes, a row per target class."""
        figure = relation_figure(self.relations, self._names["target"], self._names["source"])
        return {"class_relations": figure}

    def get_extra_state(self) -> dict[str, list[str]]:
        """Save the class names, for the figure after a resume."""
        return self._names

    def set_extra_state(self, state: Mapping[str, list[str]]) -> None:
        """Restore the names; a resumed run needs no source."""
        self._network.clear()
        self._names = {side: list(names) for side, names in state.items()}

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *rest: Any,  # noqa: ANN401 - torch's hook
    ) -> None:
        found = state_dict.get(f"{prefix}relations")
        if found is not None:  # its size is known only at the start of a run
            self.relations = torch.zeros_like(found, device=self.relations.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def relation_figure(
    relations: Tensor, target_classes: Sequence[str] = (), source_classes: Sequence[str] = ()
) -> Figure:
    """Plot class relations; a row shows how the source classifies a target class.

    Args:
        relations: ``(T, S)``, rows that sum to 1.
        target_classes: Names of the rows, or none.
        source_classes: Names of the columns, or none.
    """
    rows, columns = relations.shape
    size = (3 + 0.25 * min(columns, 40), 2 + 0.12 * rows)
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where it is drawn

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(
        relations.cpu().numpy(),
        aspect="auto",
        vmin=0,
        vmax=float(relations.max()),
        interpolation="none",
    )
    figure.colorbar(image, ax=axes, label="p(source class | target class)")
    if len(target_classes) == rows:
        axes.set_yticks(range(rows), target_classes, fontsize=6, parse_math=False)
    if len(source_classes) == columns:
        axes.set_xticks(range(columns), source_classes, rotation=90, fontsize=6, parse_math=False)
    axes.set(xlabel="source class", ylabel="target class", title="what target classes look like")
    return figure
