"""What a penalty receives: the start of a run, and each training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tl.batch import Inputs
from tl.tasks import Task
from tl.transfer.opened import Source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Step:
    """A training step as penalties see it.

    Args:
        backbone: The shared network.
        heads: Heads by task.
        images: Normalised inputs by source, such as images ``(N, 3, H, W)``. Two views of each
            sample are one batch, all first views first, as they are in `features`.
        features: Features ``(N, D)`` by source, with their graph.
        logits: Logits ``(N, C)`` by task, with their graph.
        targets: Labels ``(N,)`` by task, negative if missing.
        sources: The source that each task of this batch reads.
        progress: Share of the training that is done, 0 to 1; ``None`` if its length is not known,
            or no penalty adapts to an unlabelled source.
        layers: Outputs of the layers in ``Penalty.reads_layers`` with their graph, by name: one for
            each forward pass of the step, in the order of `images`; two views of a source may take
            two passes.
    """

    backbone: nn.Module
    heads: nn.ModuleDict
    images: Mapping[str | None, Inputs]
    features: Mapping[str | None, Tensor]
    logits: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    sources: Mapping[str, str | None]
    progress: float | None = None
    layers: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """The start of a run as penalties see it.

    Args:
        backbone: The network, with the source's weights by the time of ``Penalty.start``; with
            ordinary batch norm if the run keeps statistics per source.
        heads: Heads by task.
        init_from: The source's checkpoint; ``None`` for random weights.
        rename: Beginnings of names in that checkpoint and what they are called in the backbone.
        pretrained: Whether the backbone has its own pretrained weights.
        classes: Number of classes by task.
        class_names: Class names by task, if the data have them.
        device: Device of the run.
        batches: Returns the training images and labels of a task, not augmented.
        groups: The group of each class by name, for tasks whose labels are these groups.
    """

    backbone: nn.Module
    heads: nn.ModuleDict
    init_from: Source | None
    rename: Mapping[str, str]
    pretrained: bool
    classes: Mapping[str, int]
    class_names: Mapping[str, Sequence[str]]
    device: torch.device
    batches: Callable[[str], Iterable[tuple[Inputs, Tensor]]]
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Penalty(nn.Module, ABC):
    """A term that is added to the loss while training.

    Anything it keeps from the start (weights, tables, a source network) must be a parameter or
    buffer: these are saved with the model and survive a resume, which does not call ``start``.

    Attributes:
        reads_unlabelled: Whether it looks at the features of sources that no task trains on.
        reads_layers: Names of layers of the backbone whose outputs it looks at, once attached.
    """

    reads_unlabelled: bool = False
    reads_layers: Sequence[str] = ()

    def check(self, tasks: Mapping[str, Task]) -> None:
        """Refuse tasks that it cannot work on; called once, when the model is built.

        Raises:
            ValueError: If it cannot.
        """

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Allocate what ``start`` fills; called once, when the model is built."""

    def prepare(self, start: Start) -> None:
        """Create what the optimizer must know about, before the start of a run.

        A resumed run replaces all of it by its saved state, and needs no source.

        Raises:
            ValueError: If the source is unsuitable; ignored when a run resumes.
        """

    def start(self, start: Start) -> None:
        """Read the loaded source weights, at the start of a new run."""

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """Return the term, a float32 scalar, 0 or more."""

    def decays(self) -> set[str]:
        """Return the parts (``backbone``, ``head``) whose weight decay this term replaces."""
        return set()

    def figures(self) -> dict[str, Figure]:
        """Return figures of what was computed at the start, by name, for the dashboard."""
        return {}

    def watched(self) -> dict[str, Tensor]:
        """Return what else to log of the latest step, logged as ``transfer/<penalty>_<name>``."""
        return {}

    @property
    def group(self) -> str:
        """Name of its own parameters' group in the optimizer."""
        return "source_head"

    @property
    def name(self) -> str:
        """Name under which the term is logged, ``transfer/<name>``."""
        return type(self).__module__.rpartition(".")[2]


def require_source(penalty: nn.Module, start: Start) -> None:
    """Refuse to pull toward random weights.

    Raises:
        ValueError: If there is no source.
    """
    if start.init_from is None and not start.pretrained:
        raise ValueError(
            f"{type(penalty).__name__} needs the weights of a source, and this run has none; give "
            "its checkpoint with `init_from`, or a backbone whose attribute `pretrained` is true."
        )


def require_checkpoint(penalty: nn.Module, start: Start) -> Source:
    """Return the source's checkpoint.

    Raises:
        ValueError: If there is none.
    """
    if start.init_from is None:
        raise ValueError(
            f"{type(penalty).__name__} needs a source's backbone and head, but this run has no "
            "source checkpoint; give it with `init_from`."
        )
    return start.init_from


class StartWeights(nn.Module):
    """Values by parameter name, as buffers, saved and moved with the model.

    Args:
        module: Module whose parameters to mirror; the buffers start at zero.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, parameter in module.named_parameters():
            self.register_buffer(name.replace(".", "/"), torch.zeros_like(parameter.detach()))

    def set(self, values: Mapping[str, Tensor]) -> None:
        """Copy values by parameter name."""
        for name, value in values.items():
            self.get_buffer(name.replace(".", "/")).copy_(value.detach())

    def pairs(self, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each parameter of a module with its stored value."""
        for name, parameter in module.named_parameters():
            yield parameter, self.get_buffer(name.replace(".", "/"))


def nothing(step: Step, learned: nn.Module | None = None) -> Tensor:
    """Return a zero term with a graph, for a batch to which a penalty does not apply.

    Args:
        step: The step.
        learned: Parameters that the penalty trains: DDP waits for a gradient of each.
    """
    tensors = [*step.features.values(), *(learned.parameters() if learned is not None else ())]
    return torch.stack([tensor.float().sum() for tensor in tensors]).sum() * 0.0


def only_classification(penalty: nn.Module, task: str | None, start: Start) -> str:
    """Return the task that a class-based penalty applies to.

    Args:
        penalty: The penalty.
        task: The configured task; ``None`` if there is only one.
        start: The start of the run.

    Raises:
        ValueError: If there are several and none is named, or if it does not have exclusive
            classes.
    """
    chosen = only_task(penalty, task, start.heads)
    if chosen not in start.classes:
        raise ValueError(
            f"{type(penalty).__name__} works on a classification with one class per sample; the "
            f"task {chosen!r} is not one."
        )
    return chosen


def only_task(penalty: nn.Module, task: str | None, tasks: Iterable[str]) -> str:
    """Return the task that a penalty applies to.

    Args:
        penalty: The penalty.
        task: The configured task; ``None`` if there is only one.
        tasks: All tasks.

    Raises:
        ValueError: If there are several and none is named, or the named one does not exist.
    """
    names = list(tasks)
    if task is None and len(names) == 1:
        return names[0]
    if task not in names:
        raise ValueError(
            f"{type(penalty).__name__} works on one task; set `task` to one of {', '.join(names)}"
            + (f", got {task!r}." if task is not None else ".")
        )
    return str(task)
