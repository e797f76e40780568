"""Where the weights of a module come from: a source, and what takes its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tl.checkpoints.errors import CheckpointError
from tl.modules.batch_norm import SourceBatchNorm2d
from tl.tasks import Classification
from tl.transfer.opened import OpenedSource
from tl.transfer.source import check_groups, load_heads, order_heads
from tl.transfer.weights import TransferReport, WeightsMismatchError, load_weights

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

_RESTORED: ContextVar[bool] = ContextVar("restored", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Build modules without reading their source: a checkpoint of their own replaces it."""
    token = _RESTORED.set(True)
    try:
        yield
    finally:
        _RESTORED.reset(token)


@dataclass(frozen=True)
class _Kept:
    """The start of a module that has not trained, while an evaluation uses other weights."""

    state: Mapping[str, Tensor]
    provenance: dict[str, Any] | None
    report: TransferReport | None
    missing: CheckpointError | None


class SourceStart:
    """The start of a module, which lies behind once it has trained.

    The source's weights come in when the module is built. Training changes them from there on: a
    second `fit` continues from the first. An evaluation of another checkpoint does not: a module
    that has not trained yet still starts from its source.

    Args:
        init_from: The source's checkpoint; ``None`` for the weights that the backbone brings.
        provenance: Where those come from.

    Attributes:
        file: The source, which penalties read too; its file is read once.
        provenance: Where the start weights came from, and where those came from; ``None`` for
            random ones.
        report: What was loaded of the source; ``None`` without one.
        begun: Whether the module has trained, or taken over a run that has.
    """

    def __init__(self, init_from: str | None, provenance: dict[str, Any] | None) -> None:
        self.file = None if init_from is None else OpenedSource(init_from)
        self.provenance = provenance
        self.report: TransferReport | None = None
        self.begun = False
        self._missing: CheckpointError | None = None
        self._kept: _Kept | None = None
        self._heads: dict[str, Sequence[str]] = {}  # classes of those from the source
        self._groups: dict[str, Mapping[str, str]] = {}

    def load(
        self,
        module: SharedBackboneModule,
        rename: Mapping[str, str],
        reinit: Sequence[str],
        *,
        heads: bool,
    ) -> None:
        """Bring in the source's weights.

        A source that cannot be read is an error only where its weights are needed: a run that
        resumes replaces them.

        Args:
            module: The module; backbone and heads are changed in place.
            rename: Beginnings of names in the source and what they are called in the backbone.
            reinit: Beginnings of names in the backbone that stay as they are.
            heads: Whether heads come from the source, too.

        Raises:
            ValueError: If the source does not fit the backbone or the heads.
        """
        if self.file is None or _RESTORED.get():
            return
        try:
            report = load_weights(module.backbone, self.file, rename=rename, reinit=reinit)
            for name, layer in module.backbone.named_modules():
                if isinstance(layer, SourceBatchNorm2d):
                    found = {
                        s for s in layer.sources if f"{name}.running_mean_{s}" in report.loaded
                    }
                    layer.spread([s for s in layer.sources if s not in found])
            self.report, self.provenance = report, report.record()
            if heads:
                taken = load_heads(module.heads, self.file, module.tasks)
                self._heads = {task: head.class_names for task, head in taken.items()}
                self._groups = {task: head.groups for task, head in taken.items()}
        except WeightsMismatchError:
            raise
        except CheckpointError as error:
            rank_zero_warn(f"{error} Without it, this model can only resume from a checkpoint.")
            self._missing = error

    def need(self) -> None:
        """Refuse to compute with random weights in the place of the source's.

        Raises:
            CheckpointError: If the source could not be read and no other weights have come in.
        """
        if self._missing is not None:
            raise self._missing

    def replaced(self) -> None:
        """Note that other weights have come in."""
        self._missing = None

    def begin(self) -> bool:
        """Leave the start behind; returns whether this is the first training."""
        first, self.begun = not self.begun, True
        self.close()
        return first

    def close(self) -> None:
        """Give back the memory that the source's file takes; it has been read by all."""
        if self.file is not None:
            self.file.close()

    def resume(self, record: Mapping[str, Any]) -> None:
        """Take over what a checkpoint says of its start."""
        self.begun = bool(record.get("begun", True))
        if self.begun:
            self.report = None
        self.provenance = record.get("provenance")

    # An evaluation before any training

    def keep(self, module: SharedBackboneModule, provenance: dict[str, Any] | None) -> None:
        """Keep a source's weights, which those of an evaluated checkpoint are about to replace.

        Args:
            module: The module.
            provenance: Where the checkpoint's weights came from.
        """
        has_source = self.file is not None or getattr(module.backbone, "pretrained", False)
        if not self.begun and has_source and self._kept is None:
            state = {name: value.detach().clone() for name, value in module.state_dict().items()}
            self._kept = _Kept(state, self.provenance, self.report, self._missing)
        self.provenance = provenance

    def restore(self, module: SharedBackboneModule) -> None:
        """Return to the source, where an evaluation has used other weights before any training."""
        kept, self._kept = self._kept, None
        if kept is not None:
            module.load_state_dict(kept.state, strict=False)  # what a penalty has read comes anew
            self.provenance, self.report = kept.provenance, kept.report
            self._missing = kept.missing

    # Heads

    def order_heads(self, module: SharedBackboneModule, here: Mapping[str, Sequence[str]]) -> None:
        """Let the rows of the source's heads answer the data's classes, once these are known.

        Args:
            module: The module, with a Trainer.
            here: Class names by task, as the data have them.
        """
        if not self._heads or not here:
            return
        groups = getattr(module.datamodule, "task_groups", {})
        if len(here) == len(module.tasks) == 1:  # the same task, whatever each calls it
            here = dict(zip(module.tasks, here.values(), strict=True))
            groups = dict.fromkeys(module.tasks, next(iter(groups.values()), {}))
        check_groups(self._groups, groups)
        for task in order_heads(module.heads, self._heads, here):
            rank_zero_info(
                f"tl: the source's head of {task!r} had its classes in another order; its rows "
                "follow their names."
            )
        for task in [task for task, names in self._heads.items() if not names]:
            if not isinstance(module.tasks[task], Classification):
                continue
            rank_zero_warn(
                f"The source's head of {task!r} does not say which classes it answers: they are "
                "taken to be those of the data, in the same order."
            )
        known = {task: here[task] for task in self._heads if here.get(task)}
        self._heads = {**self._heads, **known}

    def log(self, tasks: Sequence[str], *, heads: bool) -> None:
        """Log what was loaded of the source, at the start of its first training.

        Args:
            tasks: All tasks.
            heads: Whether heads were to come from the source.
        """
        if self.begun or self.report is None:
            return
        rank_zero_info(self.report.table())
        if heads:
            taken = self._heads
            new = [task for task in tasks if task not in taken]
            line = f"tl: heads of {', '.join(taken)} from the source"
            rank_zero_info(f"{line}, new ones for {', '.join(new)}." if new else f"{line}.")
