"""When a training step is replayed from CUDA graphs, and when it runs as usual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tl.modules.batch import AnyBatch
from tl.modules.cuda_graphs import CudaGraphs
from tl.modules.step_graph import Replayed, StepGraph, form_of
from tl.private.torch import GRADIENT_HOOKS, hook_tables, tensor_tables

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

#: Steps that run as usual before one is recorded: kernels are compiled and chosen there.
FIRST_STEPS = 3
#: Where steps can be recorded.
DEVICES: tuple[str, ...] = ("cuda",)
_MOST_FORMS = 100
_PRECISIONS = ("32-true", "bf16-mixed")
_OWN_GRAPHS = ("reduce-overhead", "max-autotune")
# methods whose code runs only while a step is recorded, or that leave losses out of some steps
_OURS = ("task_losses", "features", "output", "head_of", "total_loss", "training_loss")


class CapturedStep:
    """Replays forward pass, losses and backward pass of steps whose batches have one form.

    The form is the first that three steps have had; batches of other forms, such as a smaller last
    one, run as usual. So does everything outside the graphs: augmentation (its random numbers are
    part of the batch), balancers, the check for non-finite values, clipping, the optimizer with its
    learning rates, and logging. Both ways compute the same, so which one a step takes changes no
    result.

    A graph reads weights and running statistics at their addresses, and whether a layer trains is
    fixed in it. When one of these changes, as when a stage is unfrozen, the step is recorded again.

    Attributes:
        replayed: Steps of the latest run that were replayed.
    """

    def __init__(self) -> None:
        self.replayed = 0  # steps of the run
        self._on = False  # not outside training, nor where it is not safe
        self._graph: StepGraph | None = None
        self._form: object = None  # of the batches of the graph
        self._state: object = None  # of the network in the last step
        self._steps: Counter[object] = Counter()  # by form, before one was recorded
        self._said: set[str] = set()
        self._modules: list[nn.Module] = []
        self._parameters: list[nn.Parameter] = []
        self._tensors: list[dict[str, Any]] = []
        self._hooks: list[Mapping[int, Any]] = []

    def __reduce__(self) -> tuple[type[CapturedStep], tuple[()]]:
        """Leave the graphs out of copies: they belong to the weights of this module."""
        return CapturedStep, ()

    def begin(self, module: SharedBackboneModule) -> None:
        """Check whether steps of the coming run can be recorded."""
        self.end()
        self.replayed = 0
        if (reason := _unsafe(module)) is not None:
            rank_zero_info(f"tl: `cuda_graph`: {reason}; steps run without a graph.")
            return
        self._on = True
        parts = (module.backbone, module.heads, module.twins)
        self._modules = [inner for part in parts for inner in part.modules()]
        self._parameters = [p for part in parts for p in part.parameters()]
        self._tensors = tensor_tables(self._modules)
        self._hooks = hook_tables(self._modules)

    def end(self) -> None:
        """Drop what was recorded, but for the number of replayed steps."""
        vars(self).update({**vars(CapturedStep()), "replayed": self.replayed})

    def __call__(
        self, module: SharedBackboneModule, batch: AnyBatch, batch_idx: int
    ) -> Replayed | None:
        """Return losses, outputs and sums for the log; ``None`` if the step must run as usual."""
        if not self._on:
            return None
        if any(self._hooks):
            self._say("modules have hooks, which a graph would leave out")
            return None
        if any(map(attrgetter(GRADIENT_HOOKS), self._parameters)):
            self._say("parameters have hooks, which a graph would repeat")
            return None
        if not module.target_check.done:
            self._say("the targets are checked in the step, which waits for them")
            return None
        if (state := self._state_of(module)) != self._state:
            self._state, self._graph, self._steps = state, None, Counter()
        form = form_of(batch)
        if self._graph is None:
            self._steps[form] += 1
            # within an accumulation, earlier losses keep nodes of another stream
            if batch_idx % module.trainer.accumulate_grad_batches == 0:
                self._graph, self._form = self._recorded(module, batch, form), form
        elif form != self._form:
            self._say("some batches have another form than the recorded one")
            return None
        self.replayed += self._graph is not None
        return None if self._graph is None else self._graph.run(batch)

    def _recorded(
        self, module: SharedBackboneModule, batch: AnyBatch, form: object
    ) -> StepGraph | None:
        """Record a step once its form was seen often enough."""
        if len(self._steps) > _MOST_FORMS:
            self._give_up(f"batches have more than {_MOST_FORMS} forms")
        if not self._on or self._steps[form] <= FIRST_STEPS:
            return None
        try:
            graph = StepGraph(module, batch, CudaGraphs(module.device))
        except Exception as error:  # noqa: BLE001 - the usual step raises again what is not the graph's
            reason = (str(first := _first(error)).splitlines() or [""])[0].strip()
            self._give_up(f"the step cannot be recorded: {reason or type(first).__name__}")
        else:
            rank_zero_info(
                f"tl: `cuda_graph`: from step {module.global_step}, forward pass, losses and "
                "backward pass are replayed from a graph."
            )
            return graph
        with suppress(RuntimeError):  # a void recording may leave its pool open
            torch.cuda.empty_cache()  # does nothing without a GPU
        return None

    def _state_of(self, module: SharedBackboneModule) -> object:
        """Return what a graph takes for constant, besides the form of the batch."""
        # of today: averaging weights puts new running statistics in the place of old ones
        every = chain.from_iterable(map(dict.values, self._tensors))
        tensors = [tensor for tensor in every if tensor is not None]
        return (
            [*map(attrgetter("training"), self._modules)],
            [*map(attrgetter("requires_grad"), tensors)],
            [*map(Tensor.data_ptr, tensors)],
            module.label_smoothing,
        )

    def _say(self, what: str) -> None:
        """Log once why some steps run as usual."""
        if what not in self._said:
            self._said.add(what)
            rank_zero_info(f"tl: `cuda_graph`: {what}: such steps run without a graph.")

    def _give_up(self, reason: str) -> None:
        """Run all further steps as usual."""
        self.end()
        rank_zero_info(f"tl: `cuda_graph`: {reason}; steps run without a graph.")


def _first(error: BaseException) -> BaseException:
    """Return the error that led to another: a void recording hides why it is void."""
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    return error


def _unsafe(module: SharedBackboneModule) -> str | None:
    """Return why steps of a run cannot be recorded; ``None`` if they can."""
    trainer, kind = module.trainer, type(module)
    strategy, precision = trainer.strategy, trainer.precision_plugin.precision
    own = [
        name
        for name in _OURS
        if name in vars(module) or not getattr(kind, name).__module__.startswith("tl.")
    ]
    device = module.device.type
    reasons = {
        f"CUDA graphs need a GPU, and this run trains on the {device}": device not in DEVICES,
        f"graphs are for one device, and the strategy is {type(strategy).__name__}": not isinstance(
            strategy, SingleDeviceStrategy
        ),
        f"the precision must be one of {', '.join(_PRECISIONS)}, got {precision}": (
            precision not in _PRECISIONS
        ),
        f"`compile={module.compile_mode}` has graphs of its own; use `compile=true`": (
            module.compile_mode in _OWN_GRAPHS
        ),
        "penalties may compute something else in each step": len(module.penalties) > 0,
        "`detect_anomaly` looks at each operation": torch.is_anomaly_enabled(),
        (
            f"{kind.__name__} has its own `{', '.join(own)}`, which may compute something else in "
            "each step"
        ): own,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
