"""What penalties on labelled and unlabelled sources have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tl.backbones.streams import StreamsBackbone
from tl.batch import at_least_float32
from tl.tasks import Task
from tl.tasks.two_views.gather import gathered_rows
from tl.transfer.penalties.base import Penalty, Step, nothing


class Adaptation(Penalty):
    """A term that brings a source without labels closer to the labelled ones.

    The unlabelled sources are those whose labels no task trains on: data with ``labels: none``,
    also where a self-supervised task learns from them. The
    features of several labelled sources are taken together, and so are those of several unlabelled
    ones. Several processes compute the term of the joint batch, with gradients; batch norm still
    averages over each process's own samples.

    Args:
        weight: Weight relative to the ordinary loss, 0 or more.

    Raises:
        ValueError: If `weight` is out of range; when the model is built, if all its tasks read
            labelled sources, or the backbone has features of its own for each task; at the run's
            start, if training reads no source without labels.
    """

    reads_unlabelled = True

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ValueError(f"`weight` must be 0 or more and finite, got {weight}.")
        self.weight = weight
        self._without_labels: set[str] = set()  # self-supervised tasks

    def check(self, tasks: Mapping[str, Task]) -> None:
        """Refuse a run in which every source trains."""
        self._without_labels = {name for name, task in tasks.items() if not task.supervised}
        trained = {t.source for t in tasks.values() if t.trains and t.supervised}
        if {task.source for task in tasks.values()} - trained:
            return
        sources = sorted(str(source) for source in trained if source is not None)
        found = f"the labelled sources {', '.join(sources)}" if len(sources) > 1 else "one source"
        raise ValueError(
            f"{type(self).__name__} adapts to a source without labels, and the run has {found}; "
            "put both into a MultiTaskDataModule, give the new one `labels: none`, and name in "
            "`shares` the task whose head evaluates it."
        )

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Refuse a backbone whose features belong to a task each."""
        del heads
        if isinstance(backbone, StreamsBackbone):
            raise ValueError(  # noqa: TRY004 - an argument, as all others
                f"{type(self).__name__} compares the features of sources, and "
                f"{type(backbone).__name__} has other ones for each task; choose a backbone that "
                "the tasks share."
            )

    def forward(self, step: Step) -> Tensor:
        """Return the term; 0 for a batch that lacks one side."""
        labelled = {s for task, s in step.sources.items() if task not in self._without_labels}
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for source, features in step.features.items():
            sides[source not in labelled].append(features)
        [some, *_] = step.features.values()
        with torch.autocast(some.device.type, enabled=False):
            # the first part keeps the width of a side that only other processes have
            known, new = (at_least_float32(torch.cat([some[:0], *side])) for side in sides)
            known, new = gathered_rows(known), gathered_rows(new)
            if not (len(known) and len(new)):
                return nothing(step, self)
            found = self.between(known, new, step)
        return self.weight * found

    @abstractmethod
    def between(self, source: Tensor, target: Tensor, step: Step) -> Tensor:
        """Return the term before its weight, a scalar.

        Args:
            source: Features of labelled samples ``(N, D)``, at least float32.
            target: Features of unlabelled samples ``(M, D)``.
            step: The step.
        """


def length_of_features(backbone: nn.Module) -> int:
    """Return the length of a backbone's features.

    Raises:
        ValueError: If it does not say it.
    """
    found = getattr(backbone, "num_features", None)
    if not isinstance(found, int):
        raise ValueError(  # noqa: TRY004 - an argument that lacks something
            f"The backbone {type(backbone).__name__} has no integer attribute `num_features`."
        )
    return found
