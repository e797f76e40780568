"""Co-Tuning: use the source's head by how its classes relate to the target's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from tl.transfer.penalties.base import Penalty, Start, Step, nothing, only_task, require_source
from tl.transfer.source import SourceHead, SourceNetwork, class_names_of, head_weights


def class_relations(
    source: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], num_classes: int
) -> Tensor:
    """Average the source's class probabilities over the images of each target class.

    ``p(y_s | y_t = y) = 1 / |D_y| * sum_{x in D_y} f_0(x)`` (You et al., 2020, equation 4, the
    direct approach).

    Args:
        source: Images ``(N, 3, H, W)`` to logits ``(N, S)``.
        batches: Images and target labels ``(N,)``; negative ones are passed over.
        num_classes: Target classes.

    Returns:
        A table ``(num_classes, S)`` whose rows add up to 1, float32.

    Raises:
        ValueError: If a target class has no image.
    """
    sums, counts = None, None
    for images, target in batches:
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
            f"Co-Tuning relates each target class to the source's by its images, and "
            f"{len(empty)} of {num_classes} classes have none: {', '.join(map(str, empty[:5]))}."
        )
    table: Tensor = (sums / counts[:, None]).float()
    return table


class CoTuning(Penalty):
    """Train the source's head too, on what the target's labels say about source classes.

    ``weight * CE(p(y_s | y_t), f_s(x))`` where ``f_s`` is the source's head on the features that
    train, and ``p(y_s | y_t)`` the relation of classes, found once at the start (You et al., 2020,
    "Co-Tuning for Transfer Learning", equations 3 and 4; the direct approach, without calibrating
    the source). TensorBoard shows the relation as a picture, ``transfer/class_relations``.

    Args:
        weight: ``lambda``, 0 or more; that of the authors' code.
        task: Target task, where there are several.
        source_task: Whose head of the source, where it has several.

    Raises:
        ValueError: If `weight` is negative; at the run's start, without a source checkpoint or
            where a target class has no image.
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
        self.head = SourceHead()
        self.register_buffer("relations", torch.zeros(0, 0))
        self._source_classes: Sequence[str] = ()

    def prepare(self, start: Start) -> None:
        """Read the source's head."""
        require_source(self, start, checkpoint=True)
        only_task(self, self.task, start.classes)
        if start.init_from is not None:
            self.head.set(*head_weights(start.init_from, self.source_task))
            self._source_classes = class_names_of(start.init_from, self.source_task)

    def start(self, start: Start) -> None:
        """Relate the classes by the source's answers on the target's training images."""
        task = only_task(self, self.task, start.classes)
        if start.init_from is None:
            return
        source = SourceNetwork(start.backbone)
        source.load(start.init_from, self.source_task)
        source.to(start.device)
        relations = class_relations(source, start.batches(task), start.classes[task])
        self.relations = relations.to(start.device)

    def forward(self, step: Step) -> Tensor:
        """Return the term, the mean over the images with a label."""
        task = only_task(self, self.task, step.heads.keys())
        if task not in step.logits:
            return nothing(step)
        target = step.targets[task]
        labelled = target >= 0
        if not bool(labelled.any()):
            return nothing(step)
        answers = self.head(step.features[step.sources[task]]).float()[labelled]
        return self.weight * functional.cross_entropy(answers, self.relations[target[labelled]])

    def figures(self) -> dict[str, Figure]:
        """The relation of classes, a row per target class."""
        return {"class_relations": relation_figure(self.relations, self._source_classes)}

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *rest: Any,  # noqa: ANN401 - torch's hook
    ) -> None:
        found = state_dict.get(f"{prefix}relations")
        if found is not None:  # its size is known at the start of a run only
            self.relations = torch.zeros_like(found, device=self.relations.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def relation_figure(relations: Tensor, source_classes: Sequence[str] = ()) -> Figure:
    """Draw a table of class relations ``(T, S)``; a row says what a target class looks like."""
    rows, columns = relations.shape
    figure = Figure(figsize=(3 + 0.25 * min(columns, 40), 2 + 0.12 * rows), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(relations.cpu(), aspect="auto", vmin=0, vmax=1, interpolation="none")
    figure.colorbar(image, ax=axes, label="p(source class | target class)")
    if len(source_classes) == columns:
        axes.set_xticks(range(columns), source_classes, rotation=90)
    axes.set(xlabel="source class", ylabel="target class", title="what target classes look like")
    return figure
