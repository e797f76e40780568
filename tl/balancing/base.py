"""What the two kinds of balancing share: losses of all processes, state, random numbers."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchjd.aggregation import Aggregator
from torchjd.scalarization import Scalarizer

from tl.balancing.passes import Backward, MicroBatch
from tl.balancing.state import load_state, move, snapshot, state_of
from tl.hardware import never_half
from tl.private.torch import empty_buffers

Rescale = Literal["none", "mean", "sum"]


class NonFiniteError(ValueError):
    """A step must not be taken because a loss or a gradient is not finite.

    Args:
        what: What is not finite, as the beginning of a sentence.
        step: Optimizer steps done before it.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(
            f"{what} at step {step}, which was not taken. Lower the learning rate, clip gradients, "
            "or look at the data; `on_nonfinite` set to 'skip' skips such steps."
        )
        self.what = what


@runtime_checkable
class NamesTasks(Protocol):
    """A method that needs the task names, in their order, before it starts."""

    def name_tasks(self, tasks: Sequence[str]) -> None:
        """Receive the task names."""


@runtime_checkable
class ReadsAccuracy(Protocol):
    """A method that uses the tasks' training accuracy."""

    def update_accuracy(self, accuracy: Tensor) -> None:
        """Receive the accuracies ``(T,)`` of an optimizer step, NaN for an absent task."""


class Balancer(nn.Module, ABC):
    """Connect a method to the training module: losses in, gradients out.

    A method works in float32, also with weights in half precision, outside autocast, without loss
    scale, on values averaged over the processes, so that every process computes the same. Its
    random numbers come from a generator seeded by seed and step. Its state is saved with the
    module's weights.

    A task that is absent from a batch (no images, or no labels) is represented by its last known
    loss and receives no gradient.

    Args:
        method: A torchjd object or one of ours.
        tasks: Task names in their fixed order.
        rescale: Whether the update is brought to the size of the ``mean`` or the ``sum``.

    Attributes:
        numbers: Place of each task among all.
        weights: Current weight of each task ``(T,)``, NaN for an absent one; ``None`` before the
            first step.
        ratio: Norm of the update over the norm of the mean gradient; ``None`` if the tasks'
            gradients are not computed.
    """

    needs_rows = False

    def __init__(
        self, method: Scalarizer | Aggregator, tasks: Sequence[str], rescale: Rescale
    ) -> None:
        super().__init__()
        self.method = method
        self.tasks = tuple(tasks)
        self.numbers = {task: number for number, task in enumerate(self.tasks)}
        self.rescale = rescale
        if isinstance(method, NamesTasks):
            method.name_tasks(self.tasks)
        self._lazy = [(owner, name) for owner in method.modules() for name in empty_buffers(owner)]
        self._start = snapshot(method)
        self.learned = self._try_out()
        self.weights: Tensor | None = None
        self.ratio: Tensor | None = None
        self._last_losses = torch.full((len(self.tasks),), torch.nan)
        self._epoch: int | None = None
        self._sums = torch.zeros(4, len(self.tasks))  # since the last optimizer step

    @property
    def name(self) -> str:
        """Name of the method."""
        return type(self.method).__name__

    # Implemented by subclasses

    @abstractmethod
    def _trial(self, method: nn.Module) -> list[str]:
        """Run a copy of the method once; return the parameters that the optimizer must train."""

    @abstractmethod
    def combine(self, batch: MicroBatch) -> Tensor:
        """Return the scalar to backpropagate from the losses of a micro-batch."""

    @abstractmethod
    def backward(self, run: Backward) -> None:
        """Write gradients to ``.grad``; before the last micro-batch, keep them."""

    def begin(self, epoch: int) -> bool:
        """Record the epoch of the next step; return whether an epoch has ended."""
        ended = self._epoch is not None and self._epoch != epoch
        self._epoch = epoch
        return ended

    # Losses

    def observe(self, batch: MicroBatch) -> tuple[Tensor, list[bool]]:
        """Average the losses over the processes.

        Returns:
            Losses ``(T,)`` float32, the last known ones for absent tasks, and which tasks are
            present.

        Raises:
            NonFiniteError: If a loss is not finite.
        """
        sums = self._table(batch)
        present = sums[1] > 0
        losses = sums[0] / sums[1].clamp(min=1)
        there, found = torch.stack([present.to(losses), losses]).tolist()
        for task, is_there, value in zip(self.tasks, there, found, strict=True):
            if is_there and not math.isfinite(value):
                raise NonFiniteError(f"The loss of task {task!r} is {value}", batch.step)
        self._sums = self._sums.to(sums.device) + sums
        last = self._last_losses.to(losses)
        mean = (losses * present).sum() / present.sum().clamp(min=1)
        stand_in = torch.where(last.isnan(), mean, last)
        values = torch.where(present, losses, stand_in)
        self._last_losses = torch.where(present & losses.isfinite(), losses, last)
        return values, [bool(value) for value in there]

    def _table(self, batch: MicroBatch) -> Tensor:
        """Return loss, presence, correct and labelled samples ``(4, T)`` over all processes."""
        zero = next(iter(batch.losses.values())).detach().float() * 0
        columns = []
        for task in self.tasks:
            if task in batch.losses:
                there = (batch.labelled[task] > 0).to(zero)
                loss = batch.losses[task].detach().float()
                loss = torch.where(there > 0, loss, 0.0)
                right, labelled = batch.right[task].to(zero), batch.labelled[task].to(zero)
                columns.append(torch.stack([loss, there, right, labelled]))
            else:
                columns.append(torch.zeros(4, device=zero.device))
        return batch.total(torch.stack(columns, dim=1))

    def drop_step(self) -> None:
        """Drop what was accumulated for a step that will not be taken."""
        self._sums = torch.zeros_like(self._sums)

    def end_step(self) -> tuple[Tensor, Tensor]:
        """Report the step to the method, and reset the sums.

        Returns:
            Mean losses ``(T,)`` over the step's micro-batches, and how often each task was present.
        """
        loss, there, right, labelled = self._sums
        self._sums = torch.zeros_like(self._sums)
        if isinstance(self.method, ReadsAccuracy):
            self.method.update_accuracy(torch.where(labelled > 0, right / labelled, torch.nan))
        return loss / there.clamp(min=1), there

    # Trying out, random numbers, state

    def _try_out(self) -> list[str]:
        trial = copy.deepcopy(self.method)
        try:
            with seeded(0, torch.device("cpu")):
                return self._trial(trial)
        except (ValueError, RuntimeError, IndexError) as error:
            raise ValueError(
                f"{self.name} does not fit {len(self.tasks)} tasks ({', '.join(self.tasks)}): "
                f"{error}"
            ) from error

    def learned_parameters(self) -> list[nn.Parameter]:
        """Parameters of the method that the run's optimizer trains."""
        parameters = dict(self.method.named_parameters())
        return [parameters[name] for name in self.learned]

    def private_parameters(self) -> list[str]:
        """Names, relative to this module, of parameters that the method trains itself."""
        names = [n for n, p in self.method.named_parameters() if p.requires_grad]
        return [f"method.{name}" for name in names if name not in self.learned]

    def get_extra_state(self) -> dict[str, Any]:
        """Return all state outside parameters and buffers, in plain types, for ``state_dict``."""
        return {
            "method": state_of(self.method, self._start),
            "last_losses": self._last_losses.detach().clone(),
            "epoch": self._epoch,
        }

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a ``state_dict``."""
        device = self._last_losses.device
        load_state(self.method, self._start, state["method"], device)
        self._last_losses = state["last_losses"].to(device)
        self._epoch = state["epoch"]

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        *rest: Any,  # noqa: ANN401 - torch's hook
    ) -> None:
        # buffers that a method registers as None and creates in its first step
        names = {id(owner): path for path, owner in self.method.named_modules()}
        for owner, name in self._lazy:
            path = names[id(owner)]
            found = state_dict.get(f"{prefix}method.{path + '.' if path else ''}{name}")
            if found is not None:
                found = torch.empty_like(found, device=self._last_losses.device)
            owner.register_buffer(name, found)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Balancer:
        super()._apply(never_half(fn), recurse)  # type: ignore[no-untyped-call]
        move(self.method, fn)
        self._last_losses = self._last_losses.to(fn(self._last_losses).device)
        return self


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators, and restore the run's own afterwards."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        if gpus:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
