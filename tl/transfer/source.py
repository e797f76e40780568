"""The source as a whole network, backbone and head, from one of our checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from tl.batch import Inputs
from tl.checkpoints.files import listed
from tl.data.naming import composed_names
from tl.data.trained_on import groups_by_task, regrouped
from tl.tasks import Task, as_task
from tl.transfer.names import find_state
from tl.transfer.opened import Source, opened
from tl.transfer.weights import load_weights


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision to float32, which sums and logarithms need."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@dataclass(frozen=True)
class Head:
    """A head in a checkpoint.

    Args:
        task: Name of its task.
        weight: ``(C, D)``.
        bias: ``(C,)``, or ``None``.
        class_names: Names of its classes; empty where the checkpoint has none.
        groups: The group of each class by name, if its classes are groups.
        answers: What it predicts, such as ``10 classes``; ``None`` if the checkpoint has no tasks.
    """

    task: str
    weight: Tensor
    bias: Tensor | None
    class_names: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    answers: str | None = None


def read_heads(path: Source) -> dict[str, Head]:
    """Read all linear heads of a checkpoint of this framework, by task.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has no head.
    """
    _, content, _ = opened(path).read()
    state = find_state(content) or {}
    named = [
        name.removeprefix("heads.").removesuffix(".weight")
        for name in state
        if name.startswith("heads.") and name.endswith(".weight")
    ]
    tasks = [name for name in named if "." not in name]  # a decoder has layers of its own
    if not tasks:
        raise ValueError(
            f"{path}: has no head (`heads.<task>.weight`), only {listed(state, 3)}; use a "
            "checkpoint of a run of this framework."
        )
    record = content.get("tl")
    names, data = (
        record.get(key) if isinstance(record, Mapping) else None for key in ("class_names", "data")
    )
    found = names if isinstance(names, Mapping) else {}
    groups = groups_by_task(data) if isinstance(data, Mapping) else {}
    tasks_there = record.get("tasks", ()) if isinstance(record, Mapping) else ()
    answers = {task["name"]: as_task(task).answers for task in tasks_there}
    return {
        task: Head(
            task=task,
            weight=state[f"heads.{task}.weight"],
            bias=state.get(f"heads.{task}.bias"),
            class_names=composed_names(found.get(task) or ()),
            groups=groups.get(task, {}),
            answers=answers.get(task),
        )
        for task in tasks
    }


def read_head(path: Source, task: str | None = None, *, only: bool = False) -> Head:
    """Read a head from a checkpoint of this framework.

    Args:
        path: The checkpoint.
        task: Task whose head to take, if there are several.
        only: Take the only head, whatever its name.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has no head, or several and `task` names none of them.
    """
    heads = read_heads(path)
    if len(heads) == 1 and (task is None or only):
        return next(iter(heads.values()))
    if task not in heads:
        wanted = "name one of them" if task is None else f"none of them is {task!r}"
        raise ValueError(f"{path}: has heads for {listed(list(heads))}; {wanted}.")
    return heads[task]


def rows_by_name(there: Sequence[str], here: Sequence[str], what: str) -> list[int] | None:
    """Return the row of a head for each class, by class name.

    Args:
        there: Class names in the order of the head's rows.
        here: Class names in the order wanted.
        what: Name of the head, for the message.

    Returns:
        A row for each class of `here`; ``None`` if the order is the same.

    Raises:
        ValueError: If the sets of names differ; lists both.
    """
    there, here = composed_names(there), composed_names(here)
    if there == here:
        return None
    if sorted(there) != sorted(here):
        raise ValueError(
            f"{what} has the classes {listed(list(there))}, but the data have "
            f"{listed(list(here))}; use the same class names, or leave out that head."
        )
    row_of = {name: row for row, name in enumerate(there)}
    return [row_of[name] for name in here]


def order_heads(
    heads: nn.ModuleDict, there: Mapping[str, Sequence[str]], here: Mapping[str, Sequence[str]]
) -> list[str]:
    """Reorder the rows of heads to match the data's classes, by name.

    Args:
        heads: Linear heads by task; changed in place.
        there: Class names in the order of the rows, by task.
        here: Class names of the data, by task.

    Returns:
        The tasks whose rows were reordered.

    Raises:
        ValueError: If a task's class names differ; lists both.
    """
    orders = {
        task: rows_by_name(names, here[task], f"The source's head of {task!r}")
        for task, names in there.items()
        if names and here.get(task)
    }
    moved = {task: rows for task, rows in orders.items() if rows is not None}
    with torch.no_grad():
        for task, rows in moved.items():
            for parameter in heads[task].parameters():
                parameter.copy_(parameter[rows].clone())
    return list(moved)


def check_groups(
    there: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuse heads whose groups have the data's names but other members.

    Args:
        there: The group of each class by name, by task of the source.
        here: The groups of the data's classes, by task.

    Raises:
        ValueError: If a class belongs to different groups; names it with both.
    """
    for task, groups in there.items():
        if moved := regrouped(groups, here.get(task, {})):
            raise ValueError(
                f"The source's head of {task!r} groups {len(moved)} classes differently from the "
                f"data: {listed(moved)}. Use the source's groups, or leave out `init_heads`."
            )


def load_heads(
    heads: nn.ModuleDict, path: Source, tasks_here: Mapping[str, Task] = MappingProxyType({})
) -> dict[str, Head]:
    """Load the heads of tasks that a checkpoint has too; leave the others untouched.

    If both have a single task with the same number of classes, they are matched whatever their
    names; `order_heads` and `check_groups` compare class names once the data are loaded.

    Args:
        heads: Linear heads by task; changed in place.
        path: A checkpoint of this framework.
        tasks_here: The tasks of the heads, by name.

    Returns:
        The checkpoint's heads, by the task whose head was filled.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has none of the tasks, or one of another kind, or with another number of
            classes or features.
    """
    found = read_heads(path)
    if len(found) == len(heads) == 1 and not set(found) & set(heads):
        only = next(iter(found.values()))
        if only.class_names:
            found = dict.fromkeys(heads, only)
    tasks = [task for task in heads if task in found]
    if not tasks:
        raise ValueError(
            f"{path}: has heads for {listed(list(found))}, but this run has the tasks "
            f"{listed(list(heads))}; leave out `init_heads`, or give the tasks the same names."
        )
    for task in tasks:  # all are checked before any is changed
        here, there = heads[task].get_parameter("weight").shape, found[task].weight.shape
        if here != there:
            raise ValueError(
                f"{path}: the head of {task!r} maps {there[1]} features to {there[0]} classes, "
                f"here {here[1]} to {here[0]}; leave out `init_heads`."
            )
        answers = tasks_here[task].answers if task in tasks_here else None
        if None not in (answers, found[task].answers) and answers != found[task].answers:
            raise ValueError(
                f"{path}: the head of {task!r} gives {found[task].answers}, here it gives "
                f"{answers}; leave out `init_heads`."
            )
    with torch.no_grad():
        for task in tasks:
            heads[task].get_parameter("weight").copy_(found[task].weight)
            bias = found[task].bias
            if bias is not None:
                heads[task].get_parameter("bias").copy_(bias)
    return {task: found[task] for task in tasks}


class SourceHead(nn.Module):
    """A linear head that takes its size from the loaded weights, also from a state dict.

    Args:
        trains: Whether its weights require gradients.

    Attributes:
        linear: The layer; ``None`` until weights are loaded.
    """

    def __init__(self, *, trains: bool) -> None:
        super().__init__()
        self.trains = trains
        self.linear: nn.Linear | None = None

    def set(self, head: Head) -> None:
        """Copy the weights of a head."""
        self._make_room(head.weight, head.bias)
        if self.linear is not None:
            with torch.no_grad():
                self.linear.weight.copy_(head.weight)
                if head.bias is not None:
                    self.linear.bias.copy_(head.bias)

    def _make_room(self, weight: Tensor, bias: Tensor | None) -> None:
        """Create the layer, unless it has these shapes: an optimizer may hold its weights."""
        old = self.linear
        if (
            old is not None
            and old.weight.shape == weight.shape
            and (old.bias is None) == (bias is None)
        ):
            return
        # filled right after: uses no random numbers
        self.linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]  # torch has no types
            nn.Linear,
            *(weight.shape[1], weight.shape[0]),
            bias=bias is not None,
            device=weight.device if old is None else old.weight.device,
            dtype=weight.dtype,
        )
        self.linear.requires_grad_(self.trains)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits ``(N, C)`` of features ``(N, D)``.

        Raises:
            ValueError: If no weights are loaded.
        """
        if self.linear is None:
            raise ValueError("The source's head has no weights yet; `fit` loads them.")
        logits: Tensor = self.linear(features)
        return logits

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *rest: Any,  # noqa: ANN401 - torch's hook
    ) -> None:
        weight = state_dict.get(f"{prefix}linear.weight")
        if weight is not None:
            self._make_room(weight, state_dict.get(f"{prefix}linear.bias"))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class SourceNetwork(nn.Module):
    """A frozen copy of a network, always in evaluation mode.

    Args:
        backbone: Architecture of the source's backbone; copied.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = SourceHead(trains=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: a reference network must not change."""
        del mode
        return super().train(False)

    def load(
        self,
        path: Source,
        task: str | None = None,
        rename: Mapping[str, str] | None = None,
    ) -> Head:
        """Load backbone and head.

        Args:
            path: A checkpoint of this framework.
            task: Task whose head to take, if the checkpoint has several.
            rename: Beginnings of names in it and what they are called in the backbone.

        Returns:
            The head.

        Raises:
            CheckpointError: If the file cannot be read or does not fit.
            ValueError: If it has no head, or several and `task` names none of them, or its head
                does not predict classes.
        """
        head = read_head(path, task)
        if head.answers not in (None, f"{len(head.weight)} classes"):
            raise ValueError(
                f"{path}: the head of {head.task!r} gives {head.answers}; the source must be a "
                "classification with one class per sample."
            )
        load_weights(self.backbone, path, rename=rename)
        self.head.set(head)
        return head

    def forward(self, images: Inputs) -> Tensor:
        """Return logits ``(N, C)`` of images ``(N, 3, H, W)``, without gradients."""
        with torch.no_grad():
            logits: Tensor = self.head(self.backbone(images))
        return at_least_float32(logits)
