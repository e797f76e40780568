"""Steps whose loss or gradient is not finite: stopped before they are taken, or left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from tl.balancing.base import NonFiniteError
from tl.private.torch import foreach_copy_, foreach_norm

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

OnNonFinite = Literal["stop", "skip"]
_MOST_UNREAD = 100
# of a loss scaler: whatever is not finite still is no overflow that a smaller one would cure
_LEAST_SCALE = 1e-4


class FiniteGuard:
    """Look at the gradients before each optimiser step, and keep bad steps from moving anything.

    A bad step moves no parameter, no momentum, no running statistics and no balancer. Learning
    rate schedules go on, so that a run stays as long as it was. With accumulation the whole step
    counts, with DDP all processes decide alike: they look at averaged gradients. With a loss
    scaler an overflow of gradients is the scaler's business as long as the losses are finite.

    On a CPU looking costs nothing but the norms. On a GPU, optimisers with ``fused=True`` leave
    the step out on the device, and the answer is read every ``log_every_n_steps``; others wait
    for it each step.

    Args:
        action: ``stop`` the run, or ``skip`` the step and count it.
        max_skips: Steps in a row that may be skipped, 0 or more.

    Attributes:
        skipped: Steps skipped so far.
        broken: What a balancer found not finite in this step, if it did.

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
        self.broken: str | None = None
        self._in_a_row = 0
        self._losses: list[Mapping[str, Tensor]] = []
        self._kept: list[tuple[list[Tensor], list[Tensor]]] = []
        self._sound: dict[str, Tensor] = {}
        self._unread: list[Tensor] = []
        self._defers = False

    # From step to step

    def start(self, backbone: nn.Module) -> None:
        """Find the running statistics, which a forward pass moves."""
        self._losses, self._unread, self._defers = [], [], False
        self.broken, self._in_a_row = None, 0
        buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in backbone.buffers():
            buffers.setdefault(buffer.dtype, []).append(buffer)
        self._kept = [([b.clone() for b in same], same) for same in buffers.values()]
        # masks of some networks are infinite on purpose
        self._sound = {
            name: b
            for name, b in backbone.named_buffers()
            if b.is_floating_point() and bool(b.isfinite().all())
        }

    def begin(self) -> None:
        """Keep the running statistics as they are before an optimiser step."""
        if not self._defers:
            for copies, buffers in self._kept:
                foreach_copy_(copies, buffers)

    def see(self, losses: Mapping[str, Tensor]) -> None:
        """Note the losses of a micro-batch, to name the task if they are to blame."""
        self._losses.append(losses)

    def check(self, module: SharedBackboneModule, optimizer: Optimizer) -> None:
        """Decide about the step that the optimiser is about to take.

        Raises:
            NonFiniteError: If it must not be taken, and steps are not skipped.
        """
        losses, self._losses = self._losses, []
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
                self._in_a_row = 0
                return
        tasks = _bad_tasks(module, losses)
        scaler = _scaler(module)
        overflow = scaler is not None and scaler.get_scale() > _LEAST_SCALE
        if broken is None and not tasks and overflow:
            return
        what = _loss_of(tasks) if tasks else broken or _blame(module, optimizer)
        for copies, buffers in self._kept:
            foreach_copy_(buffers, copies)
        optimizer.zero_grad(set_to_none=True)
        module.forget_step(tasks)
        self._count(what, module.global_step)

    def _on_device(
        self, module: SharedBackboneModule, optimizer: Optimizer, grads: list[Tensor]
    ) -> bool:
        """Let a fused optimiser leave the step out by itself; returns whether it can."""
        self._defers = (
            self.waits_for(grads[0].device)
            and all(group.get("fused") for group in optimizer.param_groups)
            # the first step of a parameter would make its momentum of nothing
            and len(optimizer.state) >= len(grads)
            and _scaler(module) is None  # which says the same to the optimiser
            and getattr(module, "balancer", None) is None  # which reads losses anyway
        )
        if not self._defers:
            if hasattr(optimizer, "found_inf") and _scaler(module) is None:
                del optimizer.found_inf
            return False
        # the largest values and not the squares, which overflow long before the numbers do
        largest = torch.stack(foreach_norm(grads, torch.inf)).max()
        bad = largest.isfinite().logical_not().float()
        if self.action == "stop" and self._unread:
            bad = torch.maximum(bad, self._unread[-1])  # nor any step after it
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # torch's own, as GradScaler does
        self._unread.append(bad)
        if len(self._unread) >= _MOST_UNREAD:
            self.read(module, behind=1)
        return True

    @staticmethod
    def waits_for(device: torch.device) -> bool:
        """Say whether reading a number from a device has to wait for it."""
        return device.type != "cpu"

    def read(self, module: SharedBackboneModule, behind: int = 0) -> None:
        """Read what fused optimisers have left out on the device.

        Args:
            module: The module.
            behind: Steps that were looked at and are not counted by the Trainer yet.

        Raises:
            NonFiniteError: If there was such a step, and steps are not skipped.
        """
        if not self._unread:
            return
        flags = torch.stack(self._unread).tolist()
        self._unread = []
        if not any(flags):
            self._in_a_row = 0
            self._keep()
            return
        for copies, buffers in self._kept:
            for before, buffer in zip(copies, buffers, strict=True):
                buffer.copy_(torch.where(buffer.isfinite(), buffer, before))
        self._keep()
        tasks = module.training_log.not_finite(module)
        module.forget_step(tasks)
        what = _loss_of(tasks) if tasks else "A gradient is not finite"
        for step, bad in enumerate(flags, module.global_step + behind - len(flags)):
            if bad:
                self._count(what, step)
            else:
                self._in_a_row = 0

    def _keep(self) -> None:
        for copies, buffers in self._kept:
            foreach_copy_(copies, buffers)

    def _count(self, what: str, step: int) -> None:
        if self.action == "stop":
            raise NonFiniteError(what, step)
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row > self.max_skips:
            raise NonFiniteError(
                f"{what}, and {self._in_a_row - 1} steps before it were skipped", step
            )
        rank_zero_warn(f"{what} at step {step}: skipped, {self.skipped} of this run so far.")

    # Checkpoints

    def check_weights(self, module: SharedBackboneModule, state: Mapping[str, Tensor]) -> None:
        """See that a checkpoint would hold finite weights and running statistics.

        Args:
            module: The module.
            state: What would be saved.

        Raises:
            ValueError: If it would not.
        """
        self.read(module)
        parts = [*module.backbone.named_parameters(prefix="backbone")]
        parts += module.heads.named_parameters(prefix="heads")
        names = [name for name, _ in parts] + [f"backbone.{name}" for name in self._sound]
        held = {
            name: state[name]
            for name in names
            if name in state and state[name].is_floating_point() and state[name].numel()
        }
        if not held or _finite(list(held.values())):
            return
        [first, *_] = [name for name, value in held.items() if not bool(value.isfinite().all())]
        raise ValueError(
            f"{first} is not finite at step {module.global_step}: no checkpoint is made of it, and "
            "earlier ones are as they were. Lower the learning rate, or clip gradients."
        )


def _finite(tensors: list[Tensor]) -> bool:
    norm: float = torch.stack(foreach_norm(tensors)).sum().item()
    # squares overflow long before the numbers do
    return math.isfinite(norm) or all(bool(tensor.isfinite().all()) for tensor in tensors)


def _scaler(module: SharedBackboneModule) -> torch.amp.GradScaler | None:
    return getattr(module.trainer.precision_plugin, "scaler", None)


def _bad_tasks(module: SharedBackboneModule, losses: list[Mapping[str, Tensor]]) -> list[str]:
    """Tasks with a loss that is not finite, in any process."""
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
    return (
        f"The loss of task {names} is not finite"
        if len(tasks) == 1
        else (f"The losses of tasks {names} are not finite")
    )


def _blame(module: SharedBackboneModule, optimizer: Optimizer) -> str:
    """Say what is not finite where the losses are: a penalty, or else the gradients of a group."""
    for name, value in module.penalty_values().items():
        if not bool(value.isfinite().all()):
            return f"The penalty {name} is not finite"
    groups = [
        str(group.get("name", number))
        for number, group in enumerate(optimizer.param_groups)
        if any(p.grad is not None and not bool(p.grad.isfinite().all()) for p in group["params"])
    ]
    return f"The losses are finite, the gradient of {', '.join(groups)} is not"
