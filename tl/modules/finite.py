"""Steps with a non-finite loss or gradient: stop before them, or skip them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer

from tl.balancing.base import NonFiniteError
from tl.modules.optimisation import scaler_of
from tl.private.torch import foreach_copy_, foreach_norm

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

OnNonFinite = Literal["stop", "skip"]
_MOST_UNREAD = 100
# of a loss scaler: at this scale, non-finite gradients are not an overflow any more
_LEAST_SCALE = 1e-4


class FiniteGuard:
    """Check the gradients before each optimizer step, and keep bad steps from changing anything.

    A bad step changes no parameter, momentum, running statistics or balancer. Learning-rate
    schedules advance, so that the run keeps its length. With accumulation, the whole step is
    skipped; with DDP, all processes decide alike, by the averaged gradients. With a loss scaler,
    overflowing gradients are left to the scaler as long as the losses are finite.

    On a CPU, the check costs only the norms. On a GPU, optimizers with ``fused=True`` skip the step
    on the device, and the result is read every ``log_every_n_steps``; running statistics are then
    restored to what they were when it was last read. Other optimizers wait for it each step.

    Args:
        action: ``stop`` the run, or ``skip`` the step and count it.
        max_skips: Maximum number of consecutive skipped steps, 0 or more.

    Attributes:
        skipped: Steps skipped so far.
        in_a_row: Consecutive steps skipped last.
        broken: What a balancer found to be non-finite in this step, if anything.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, action: OnNonFinite = "stop", max_skips: int = 10) -> None:
        if action not in get_args(OnNonFinite):
            raise ValueError(f"`on_nonfinite` must be 'stop' or 'skip', got {action!r}.")
        if max_skips < 0:
            raise ValueError(f"`max_skips` must be 0 or more, got {max_skips}.")
        self.action = action
        self.max_skips = max_skips
        self.skipped = 0
        self.in_a_row = 0
        self.broken: str | None = None
        self._resumes = False
        self._losses: list[Mapping[str, Tensor]] = []
        self._kept: list[tuple[list[Tensor], list[Tensor]]] = []
        self._sound: set[str] = set()  # buffers that were finite at the start
        self._unread: list[Tensor] = []
        self._latest: Tensor | None = None
        self._defers = False

    # From step to step

    def resume(self, skipped: int, in_a_row: int) -> None:
        """Continue counting where an earlier run ended."""
        self.skipped, self.in_a_row, self._resumes = int(skipped), int(in_a_row), True

    def start(self, module: SharedBackboneModule) -> None:
        """Find the running statistics, which a forward pass updates."""
        self._losses, self._unread, self._defers, self.broken = [], [], False, None
        self.in_a_row = self.in_a_row if self._resumes else 0
        self._resumes = False
        parts = {"backbone": module.backbone, "heads": module.heads, "twins": module.twins}
        found = {
            name: b for prefix, part in parts.items() for name, b in part.named_buffers(prefix)
        }
        buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in found.values():
            buffers.setdefault(buffer.dtype, []).append(buffer)
        self._kept = [([b.clone() for b in same], same) for same in buffers.values()]
        # some networks have infinite masks on purpose
        self._sound = {
            name for name, b in found.items() if b.is_floating_point() and bool(b.isfinite().all())
        }

    def begin(self) -> None:
        """Copy the running statistics before an optimizer step."""
        if not self._defers:
            self._keep()

    def see(self, losses: Mapping[str, Tensor]) -> None:
        """Record the losses of a micro-batch, to name the task if one is not finite."""
        self._losses.append(losses)

    def check(self, module: SharedBackboneModule, optimizer: Optimizer) -> None:
        """Check the step that the optimizer is about to take.

        Raises:
            NonFiniteError: If it must not be taken, and is not to be skipped.
        """
        losses, self._losses, self._latest = self._losses, [], None
        broken, self.broken = self.broken, None
        if broken is None:
            grads = [
                p.grad
                for group in optimizer.param_groups
                for p in group["params"]
                if p.grad is not None
            ]
            if not grads:
                return
            if self._on_device(module, optimizer, grads):
                return
            if _finite(grads):
                self.in_a_row = 0
                return
        tasks = _bad_tasks(module, losses)
        scaler = scaler_of(module.trainer)
        overflow = scaler is not None and scaler.get_scale() > _LEAST_SCALE
        if broken is None and not tasks and overflow:
            return
        what = _loss_of(tasks) if tasks else broken or _blame(module, optimizer)
        self._restore()
        optimizer.zero_grad(set_to_none=True)
        module.forget_step(tasks)
        self._count(what, module.global_step)

    def _on_device(
        self, module: SharedBackboneModule, optimizer: Optimizer, grads: list[Tensor]
    ) -> bool:
        """Let a fused optimizer skip the step by itself; return whether it can."""
        self._defers = (
            self.waits_for(grads[0].device)
            and all(group.get("fused") for group in optimizer.param_groups)
            # a skipped first step would initialise the momentum from nothing
            and len(optimizer.state) >= len(grads)
            and scaler_of(module.trainer) is None  # which tells the optimizer the same
            and getattr(module, "balancer", None) is None  # which reads losses anyway
        )
        if not self._defers:
            if hasattr(optimizer, "found_inf") and scaler_of(module.trainer) is None:
                del optimizer.found_inf
            return False
        # largest values instead of squares, which overflow long before the values do
        largest = torch.stack(foreach_norm(grads, torch.inf)).max()
        bad = largest.isfinite().logical_not().float()
        if self.action == "stop" and self._unread:
            bad = torch.maximum(bad, self._unread[-1])  # nor any step after it
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # torch's own, as GradScaler does
        self._unread.append(bad)
        self._latest = bad
        if len(self._unread) >= _MOST_UNREAD:
            self.read(module, behind=1)
        return True

    @property
    def leaves_out(self) -> Tensor | None:
        """1 if the device leaves out the latest step, 0 if not; ``None`` if it is known here."""
        return self._latest

    @staticmethod
    def waits_for(device: torch.device) -> bool:
        """Return whether reading a value from a device has to wait for it."""
        return device.type != "cpu"

    def read(self, module: SharedBackboneModule, behind: int = 0) -> None:
        """Read which steps fused optimizers have skipped on the device.

        Args:
            module: The module.
            behind: Checked steps that the Trainer has not counted yet.

        Raises:
            NonFiniteError: If there is one, and steps are not to be skipped.
        """
        if not self._unread:
            return
        flags = torch.stack(self._unread).tolist()
        self._unread = []
        if not any(flags):
            self.in_a_row = 0
            self._keep()
            return
        self._restore()
        tasks = module.training_log.not_finite(module)
        module.forget_step(tasks)
        what = _loss_of(tasks) if tasks else "A gradient is not finite"
        for step, bad in enumerate(flags, module.global_step + behind - len(flags)):
            if bad:
                self._count(what, step)
            else:
                self.in_a_row = 0

    def _keep(self) -> None:
        for copies, buffers in self._kept:
            foreach_copy_(copies, buffers)

    def _restore(self) -> None:
        for copies, buffers in self._kept:
            foreach_copy_(buffers, copies)

    def _count(self, what: str, step: int) -> None:
        if self.action == "stop":
            raise NonFiniteError(what, step)
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row > self.max_skips:
            raise NonFiniteError(
                f"{what}, and {self.in_a_row - 1} steps before it were skipped", step
            )
        rank_zero_warn(f"{what} at step {step}: skipped, {self.skipped} of this run so far.")

    # Checkpoints

    def check_weights(self, module: SharedBackboneModule, state: Mapping[str, Tensor]) -> None:
        """Refuse to save non-finite weights or running statistics.

        Raises:
            ValueError: If one is not finite; names the first.
        """
        self.read(module)
        parts = [*module.backbone.named_parameters(prefix="backbone")]
        parts += module.heads.named_parameters(prefix="heads")
        names = [*(name for name, _ in parts), *sorted(self._sound)]
        held = {
            name: state[name]
            for name in names
            if name in state and state[name].is_floating_point() and state[name].numel()
        }
        if not held or _finite(list(held.values())):
            return
        [first, *_] = [name for name, value in held.items() if not bool(value.isfinite().all())]
        raise ValueError(
            f"{first} is not finite at step {module.global_step}: it is not saved, and earlier "
            "checkpoints are unchanged. Lower the learning rate, or clip gradients."
        )


def _finite(tensors: list[Tensor]) -> bool:
    norm: float = torch.stack(foreach_norm(tensors)).sum().item()
    # squares overflow long before the values do
    return math.isfinite(norm) or all(bool(tensor.isfinite().all()) for tensor in tensors)


def _bad_tasks(module: SharedBackboneModule, losses: list[Mapping[str, Tensor]]) -> list[str]:
    """Return the tasks with a non-finite loss in any process."""
    tasks = list(module.tasks)
    bad = torch.zeros(len(tasks), device=module.device)
    for seen in losses:
        for name, loss in seen.items():
            bad[tasks.index(name)] += (~loss.detach().isfinite()).float()
    if module.trainer.world_size > 1:
        bad = module.trainer.strategy.reduce(bad, reduce_op="sum")
    return [name for name, number in zip(tasks, bad.tolist(), strict=True) if number]


def _loss_of(tasks: list[str]) -> str:
    names = ", ".join(map(repr, tasks))
    if len(tasks) == 1:
        return f"The loss of task {names} is not finite"
    return f"The losses of tasks {names} are not finite"


def _blame(module: SharedBackboneModule, optimizer: Optimizer) -> str:
    """Return what is not finite if the losses are: a penalty, else the gradients of groups."""
    for name, value in module.penalty_values().items():
        if not bool(value.isfinite().all()):
            return f"The penalty {name} is not finite"
    groups = [
        str(group.get("name", number))
        for number, group in enumerate(optimizer.param_groups)
        if any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in group["params"])
    ]
    return f"The losses are finite, but the gradient of {', '.join(groups)} is not"
