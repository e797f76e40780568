"""A training step of one form of batch, recorded and replayed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tl.balancing.scalarization import ReadsGradients
from tl.modules.batch import AnyBatch, Outputs
from tl.modules.cuda_graphs import CudaGraphs, Found
from tl.private.torch import foreach_copy_

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

#: Losses by task, outputs and targets by task, and sums for the log by task.
Replayed = tuple[dict[str, Tensor], Outputs, dict[str, Tensor]]


class StepGraph:
    """The forward pass, the losses and their backward passes, on inputs at fixed addresses.

    The step is cut at the losses: they are ordinary tensors of an ordinary graph with one node,
    which replays the backward pass. How losses are combined, accumulation, loss scales, clipping
    and the optimizer's step thus stay as they are. Backward passes are recorded for all losses
    together and, for balancers that read the gradient of each task, for each loss.

    Gradients of all losses together are views of buffers that the next backward pass overwrites. A
    gradient that is still in ``.grad`` then, as in accumulation, is copied before. Balancers
    receive copies, which they may keep.

    Args:
        module: The module, with a Trainer, in training. Running statistics and random numbers are
            the same afterwards.
        batch: A batch.
        recorder: Records the work.

    Raises:
        RuntimeError: If the step cannot be recorded, or does not fit into memory.
        ValueError: If the step draws random numbers on the host.
    """

    def __init__(self, module: SharedBackboneModule, batch: AnyBatch, recorder: CudaGraphs) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._batch = cast("AnyBatch", _on_tensors(lambda t: torch.empty_like(t).copy_(t), batch))
        self._inputs = tensors_of(self._batch)
        self._names: list[str] = []
        self._factors: list[Tensor] = []
        self._live: list[Tensor] = []  # losses of the last forward pass, with its graph
        self._replays: dict[tuple[int, ...], tuple[Found, Callable[[], object]]] = {}
        forward = partial(self._forward, module)
        with _unchanged(module):
            recorder.warm_up(lambda: [self._backward(part) for part in self._parts(module)])
            self._live = []
            found, self._replay = recorder.record(forward)
            for part in self._parts(module, passed=True):
                self._replays[part] = recorder.record(partial(self._backward, part))
        # its nodes would keep the recording stream for gradients of later steps
        self._live = []
        self._static = cast("Sequence[Tensor]", found)

    def _parts(
        self, module: SharedBackboneModule, *, passed: bool = False
    ) -> Iterator[tuple[int, ...]]:
        """Yield the losses that are differentiated together, after a forward pass."""
        if not passed:
            self._forward(module)
        every = tuple(range(len(self._names)))
        balancer: Any = getattr(module, "balancer", None)
        reads = balancer is not None and (
            balancer.needs_rows or isinstance(balancer.method, ReadsGradients)
        )
        if reads and len(every) > 1:
            yield from ((number,) for number in every)
        yield every

    # What is recorded

    def _forward(self, module: SharedBackboneModule) -> list[Tensor]:
        self._live = []
        kind = module.device.type
        # with the cache, a replay would read weights that were cast before it
        cast_anew = torch.autocast(
            kind,
            dtype=torch.get_autocast_dtype(kind),
            enabled=torch.is_autocast_enabled(kind),
            cache_enabled=False,
        )
        with torch.enable_grad(), cast_anew:
            losses, outputs = module.task_losses(self._batch, smooth=True)
            sums = module.training_log.sums_of(losses, outputs)
        self._names, self._live = list(losses), list(losses.values())
        if not self._factors:
            self._factors = [torch.ones_like(loss) for loss in self._live]
        both = [tensor for name in losses for tensor in outputs[name]]
        return [*(loss.detach() for loss in self._live), *both, *sums.values()]

    def _backward(self, part: tuple[int, ...]) -> Found:
        # a usual backward pass is outside autocast, a recording inside; it would cast float32 parts
        with torch.autocast(self._factors[0].device.type, enabled=False):
            found = torch.autograd.grad(
                [self._live[number] for number in part],
                self.parameters,
                [self._factors[number] for number in part],
                # all together come last; a compiled network may refuse to keep its graph
                retain_graph=len(part) < len(self._names),
                allow_unused=True,
            )
        return [_laid_out(g, p) for g, p in zip(found, self.parameters, strict=True)]

    # What is replayed

    def run(self, batch: AnyBatch) -> Replayed:
        """Return losses, outputs and sums of a batch of the same form.

        The outputs are overwritten by the next batch.
        """
        foreach_copy_(self._inputs, tensors_of(batch))
        losses = _Replay.apply(self, *self.parameters)
        count = len(losses)
        both, sums = self._static[count : 3 * count], self._static[3 * count :]
        return (
            dict(zip(self._names, losses, strict=True)),
            {name: (both[2 * i], both[2 * i + 1]) for i, name in enumerate(self._names)},
            {name: part.clone() for name, part in zip(self._names, sums, strict=True)},
        )

    def losses(self) -> tuple[Tensor, ...]:
        """Replay the forward pass; return the losses, scalars."""
        self._replay()
        return tuple(loss.clone() for loss in self._static[: len(self._names)])

    def gradients(self, factors: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Replay the backward pass.

        Args:
            factors: Gradient with respect to each loss; ``None`` for one that is left out.

        Returns:
            The gradient with respect to each parameter, ``None`` where the losses do not depend on
            it.
        """
        part = tuple(number for number, factor in enumerate(factors) if factor is not None)
        if part not in self._replays:
            part = tuple(range(len(factors)))
        for number in part:
            factor = factors[number]
            if factor is None:
                self._factors[number].zero_()
            else:
                self._factors[number].copy_(factor)
        found, replay = self._replays[part]
        for parameter, gradient in zip(self.parameters, found, strict=True):
            before = parameter.grad
            if before is None or gradient is None:
                continue
            if before.data_ptr() == gradient.data_ptr():
                parameter.grad = before.clone()
        replay()
        keep = Tensor.detach if len(part) == len(factors) else Tensor.clone
        return [None if gradient is None else keep(gradient) for gradient in found]


class _Replay(torch.autograd.Function):
    """The losses as a function of the parameters."""

    @staticmethod
    def forward(ctx: Any, graph: StepGraph, *parameters: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401 - torch's
        del parameters
        ctx.graph = graph
        ctx.set_materialize_grads(False)
        return graph.losses()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *factors: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's
        return None, *ctx.graph.gradients(factors)


def _laid_out(gradient: Tensor | None, parameter: nn.Parameter) -> Tensor | None:
    """Return a gradient in its parameter's memory layout, which autograd would copy it to."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


@contextmanager
def _unchanged(module: SharedBackboneModule) -> Iterator[None]:
    """Restore running statistics and random numbers.

    Raises:
        ValueError: If random numbers were drawn on the host: a replay would repeat them.
    """
    buffers = [*module.buffers()]
    copies = [buffer.clone() for buffer in buffers]
    gpus = [module.device] if module.device.type == "cuda" else []
    host = (random.getstate(), np.random.get_state())  # noqa: NPY002 - the global one
    with torch.random.fork_rng(devices=gpus):
        torch_before = torch.default_generator.get_state()
        try:
            yield
        finally:
            drawn = not torch.equal(torch_before, torch.default_generator.get_state())
            drawn |= random.getstate() != host[0]
            drawn |= str(np.random.get_state()) != str(host[1])  # noqa: NPY002 - the global one
            random.setstate(host[0])
            np.random.set_state(host[1])  # noqa: NPY002 - the global one
            with torch.no_grad():
                for buffer, copy in zip(buffers, copies, strict=True):
                    buffer.copy_(copy)
    if drawn:
        raise ValueError("it draws random numbers on the host, which a replay would repeat")


# Batches


def tensors_of(batch: object) -> list[Tensor]:
    """Return the tensors of a batch, in a fixed order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _on_tensors(keep, batch)
    return found


def form_of(part: object) -> object:
    """Return structure, shapes, types and layouts of a batch; what is not known equals nothing."""
    if isinstance(part, Tensor):
        return part.shape, part.dtype, part.stride(), part.device
    if isinstance(part, Mapping):
        return tuple((key, form_of(each)) for key, each in part.items())
    if isinstance(part, tuple | list):
        return type(part), *map(form_of, part)
    return part if isinstance(part, str | int | float | None) else object()


def _on_tensors(function: Callable[[Tensor], Tensor], part: object) -> object:
    if isinstance(part, Tensor):
        return function(part)
    if isinstance(part, Mapping):
        return {key: _on_tensors(function, each) for key, each in part.items()}
    if isinstance(part, tuple | list):
        return [_on_tensors(function, each) for each in part]
    return part
