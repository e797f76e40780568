"""What a penalty is told: the start of a run, and each training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from tl.batch import Inputs
from tl.transfer.opened import Source


@dataclass(frozen=True)
class Step:
    """A training step as penalties see it.

    Args:
        backbone: The shared network.
        heads: Heads by task.
        images: Normalised inputs by source, such as images ``(N, 3, H, W)``.
        features: Features ``(N, D)`` by source, with their graph.
        logits: Logits ``(N, C)`` by task, with their graph.
        targets: Labels ``(N,)`` by task, negative where there is none.
        sources: The source that each task of this batch reads.
    """

    backbone: nn.Module
    heads: nn.ModuleDict
    images: Mapping[str | None, Inputs]
    features: Mapping[str | None, Tensor]
    logits: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    sources: Mapping[str, str | None]


@dataclass(frozen=True)
class Start:
    """The start of a run as penalties see it.

    Args:
        backbone: The network, with the source's weights in it by the time of ``Penalty.start``;
            with ordinary batch norm, where the run keeps statistics per source.
        heads: Heads by task.
        init_from: The source's checkpoint; ``None`` for random weights.
        rename: Beginnings of names in that checkpoint and what they are called in the backbone.
        pretrained: Whether the backbone brought pretrained weights of its own.
        classes: Number of classes by task.
        class_names: Their names by task, where the data have them.
        device: Where the run computes.
        batches: Gives the training images and labels of a task, not augmented.
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

    What it keeps of the start (weights, tables, a source network) are its parameters and buffers:
    they are saved with the model and survive a resume, which does not call ``start``.
    """

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Make room for what ``start`` fills; called once, when the model is built."""

    def prepare(self, start: Start) -> None:
        """Read what the optimiser must know of, before the start of a run.

        A run that goes on replaces all of it by what it had saved, and needs no source.

        Raises:
            ValueError: If the source is not what is needed; a run that goes on passes over it.
        """

    def start(self, start: Start) -> None:
        """Look at the source's weights, which have come in, at the start of a new run."""

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """Return the term, a float32 scalar, 0 or more."""

    def decays(self) -> set[str]:
        """Parts (``backbone``, ``head``) whose weight decay this term stands in for."""
        return set()

    def figures(self) -> dict[str, Figure]:
        """Pictures of what was found at the start, by name, for the dashboard."""
        return {}

    @property
    def name(self) -> str:
        """Name under which the term is logged, ``transfer/<name>``."""
        return type(self).__module__.rpartition(".")[2]


def require_source(penalty: nn.Module, start: Start) -> None:
    """Refuse to pull toward random weights.

    Args:
        penalty: Who asks.
        start: The start of the run.

    Raises:
        ValueError: If the weights are those of no source.
    """
    if start.init_from is None and not start.pretrained:
        raise ValueError(
            f"{type(penalty).__name__} needs the weights of a source, and this run has none; give "
            "its checkpoint by `init_from`, or a backbone whose attribute `pretrained` is true."
        )


def require_checkpoint(penalty: nn.Module, start: Start) -> Source:
    """Return the source's checkpoint.

    Args:
        penalty: Who asks.
        start: The start of the run.

    Raises:
        ValueError: If there is none.
    """
    if start.init_from is None:
        raise ValueError(
            f"{type(penalty).__name__} needs a source's backbone and head, and this run has no "
            "checkpoint of one; give it by `init_from`."
        )
    return start.init_from


class StartWeights(nn.Module):
    """Values by parameter name, as buffers, so that they are saved and move with the model.

    Args:
        module: Whose parameters; the buffers begin as zeros of their shapes.
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
        """Yield each parameter of a module with its kept value."""
        for name, parameter in module.named_parameters():
            yield parameter, self.get_buffer(name.replace(".", "/"))


def nothing(step: Step, learned: nn.Module | None = None) -> Tensor:
    """Return a term of 0 that has a graph, for a batch that a penalty has nothing to say to.

    Args:
        step: The step.
        learned: What the penalty learns: DDP waits for a gradient of each parameter.
    """
    tensors = [*step.features.values(), *(learned.parameters() if learned is not None else ())]
    return torch.stack([tensor.float().sum() for tensor in tensors]).sum() * 0.0


def only_classification(penalty: nn.Module, task: str | None, start: Start) -> str:
    """Return the task that a penalty on classes works on.

    Args:
        penalty: Who asks.
        task: Its choice; ``None`` where there is one task.
        start: The start of the run.

    Raises:
        ValueError: If there are several and none is named, or it is not one of exclusive classes.
    """
    chosen = only_task(penalty, task, start.heads)
    if chosen not in start.classes:
        raise ValueError(
            f"{type(penalty).__name__} works on a classification with one class per sample, and "
            f"the task {chosen!r} is not one."
        )
    return chosen


def only_task(penalty: nn.Module, task: str | None, tasks: Iterable[str]) -> str:
    """Return the task that a penalty works on.

    Args:
        penalty: Who asks.
        task: Its choice; ``None`` where there is one task.
        tasks: All tasks.

    Raises:
        ValueError: If there are several and none is named, or the named one is not there.
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
