"""Penalties in training: they read the source and its weights, and add to the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tl.backbones.streams import shared_part
from tl.batch import Inputs, on_each
from tl.modules.batch_norm import without_sources
from tl.modules.checkpointed import as_here
from tl.modules.picture_log import log_figure, takers
from tl.modules.plain_batches import plain_batches
from tl.optim.param_groups import stage_of
from tl.tasks import Classification, Task
from tl.transfer.freezing import HEAD
from tl.transfer.penalties.base import Penalty, Start, Step

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

Penalties = Penalty | Sequence[Penalty] | None


def attached(
    given: Penalties, backbone: nn.Module, heads: nn.Module, tasks: Mapping[str, Task]
) -> list[Penalty]:
    """Return penalties as a list, after each has allocated what it stores of the network.

    Raises:
        ValueError: If one is not a penalty, or does not suit the tasks.
    """
    penalties = [given] if isinstance(given, Penalty) else list(given or ())
    for penalty in penalties:
        if not isinstance(penalty, Penalty):
            raise ValueError(  # noqa: TRY004 - like all other arguments
                f"`penalties` must be penalties of tl.transfer.penalties, got {penalty!r}."
            )
        penalty.check(tasks)
        # a source is one network with one set of running statistics
        penalty.attach(without_sources(backbone), heads)
    return penalties


class PenaltyTerms(nn.ModuleList):
    """The penalties of a module, in the order in which they are summed."""

    def __init__(self, penalties: Sequence[Penalty] = ()) -> None:
        super().__init__(penalties)
        self._values: dict[str, Tensor] = {}
        self._unprepared: ValueError | None = None

    def _each(self) -> Iterator[Penalty]:
        for penalty in self:
            if isinstance(penalty, Penalty):
                yield penalty

    @property
    def read_unlabelled(self) -> bool:
        """Whether one looks at the features of sources that no task trains on."""
        return any(penalty.reads_unlabelled for penalty in self._each())

    @property
    def layers(self) -> list[str]:
        """Names of the backbone's layers whose outputs penalties look at."""
        return list(dict.fromkeys(name for each in self._each() for name in each.reads_layers))

    def tell(self) -> None:
        """Say which there are: of two configurations with `penalties`, the later one replaces."""
        if names := [type(each).__name__ for each in self._each()]:
            rank_zero_info(f"tl: penalties: {', '.join(names)}.")

    def check_compiled(self) -> None:
        """Refuse a compiled backbone, where outputs of layers inside are not to be had.

        Raises:
            ValueError: If a penalty reads some.
        """
        if reading := [type(each).__name__ for each in self._each() if each.reads_layers]:
            raise ValueError(
                f"{reading[0]} reads outputs of layers inside the backbone, which a compiled one "
                "does not give; set `compile: false`."
            )

    def prepare(self, start: Start) -> None:
        """Let penalties read the source.

        A run that resumes reads its checkpoint later, which replaces everything that was read here,
        so that the source may be missing. Errors are therefore raised only in :meth:`add_groups`.
        """
        self._unprepared = None
        try:
            for penalty in self._each():
                penalty.prepare(start)
        except ValueError as error:
            self._unprepared = error

    def start(self, start: Start) -> None:
        """Let penalties read the source's weights, before the first training."""
        for penalty in self._each():
            penalty.start(start)

    def add_groups(self, groups: list[dict[str, Any]], *, begun: bool) -> None:
        """Add trainable parameters of penalties to the optimizer, and turn off decay they replace.

        Args:
            groups: Named groups of the optimizer; changed in place.
            begun: Whether the module has trained before, so that penalties need no source.

        Raises:
            ValueError: If a penalty lacks what it needs of the source.
        """
        if self._unprepared is not None and not begun:
            raise self._unprepared
        off = {part for penalty in self._each() for part in penalty.decays()}
        for group in groups:
            part = HEAD if stage_of(group) == HEAD else "backbone"
            if part in off:
                group["weight_decay"] = 0.0
        for name in dict.fromkeys(penalty.group for penalty in self._each()):
            parts = [penalty for penalty in self._each() if penalty.group == name]
            learned = [p for part in parts for p in part.parameters() if p.requires_grad]
            decay, rest = ([p for p in learned if (p.ndim > 1) is many] for many in (True, False))
            if decay:
                groups.append({"name": name, "params": decay})
            if rest:
                groups.append({"name": f"{name}_no_decay", "params": rest, "weight_decay": 0.0})

    def show(self, trainer: Trainer) -> None:
        """Show the figures of what was computed at the start."""
        if takers(trainer):
            for penalty in self._each():
                for name, figure in penalty.figures().items():
                    log_figure(trainer, f"transfer/{name}", figure, trainer.global_step)

    def term(self, step: Step) -> Tensor:
        """Return the sum of the penalties in a step."""
        values: dict[str, Tensor] = {}
        for number, penalty in enumerate(self._each(), 1):
            name = f"transfer/{penalty.name}"
            values[f"{name}_{number}" if name in values else name] = penalty(step)
        self._values = {name: value.detach() for name, value in values.items()}
        for name, penalty in zip(values, self._each(), strict=True):
            self._values |= {f"{name}_{what}": value for what, value in penalty.watched().items()}
        return torch.stack(list(values.values())).sum()

    def values(self) -> dict[str, Tensor]:
        """Return the latest value of each penalty by the name that it is logged under."""
        return self._values


def start_of(module: SharedBackboneModule) -> Start:
    """Return the start of a run as penalties see it, from a module with a Trainer."""
    data = module.datamodule

    def batches(task: str) -> Iterator[tuple[Inputs, Tensor]]:
        for images, target in plain_batches(data, module.tasks[task]):
            yield on_each(lambda part: part.to(module.device), images), target.to(module.device)

    return Start(
        backbone=shared_part(without_sources(module.backbone)),
        heads=module.heads,
        init_from=module.source.file,
        rename=module.rename,
        pretrained=bool(getattr(module.backbone, "pretrained", False)),
        classes={
            name: task.num_classes
            for name, task in module.tasks.items()
            if isinstance(task, Classification) and not task.multi_label and name in module.heads
        },
        class_names=as_here(getattr(data, "class_names", {}), module.tasks),
        device=module.device,
        batches=batches,
        groups=as_here(getattr(data, "task_groups", {}), module.tasks),
    )
