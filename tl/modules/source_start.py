"""The initial weights of a module: a source, and what replaces it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tl.checkpoints.errors import CheckpointError
from tl.modules.batch_norm import spread_missing
from tl.modules.checkpointed import as_here, class_names
from tl.tasks import Classification
from tl.transfer.opened import OpenedSource
from tl.transfer.source import check_groups, load_heads, order_heads
from tl.transfer.weights import TransferReport, WeightsMismatchError, load_weights

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

_RESTORED: ContextVar[bool] = ContextVar("restored", default=False)


@contextmanager
def weights_follow() -> Iterator[None]:
    """Build modules without reading their source: their own checkpoint replaces it."""
    token = _RESTORED.set(True)
    try:
        yield
    finally:
        _RESTORED.reset(token)


class SourceStart:
    """The initial weights of a module.

    The source's weights are loaded when the module is built. Training changes them from then on: a
    second `fit` continues from the first. An evaluation of another checkpoint does not: a module
    that has not trained yet still starts from its source.

    Args:
        init_from: The source's checkpoint; ``None`` for the backbone's own weights.
        provenance: Where those come from.

    Attributes:
        file: The source, which penalties read too; its file is read once.
        provenance: Where the initial weights came from, and where those came from; ``None`` if
            random.
        report: What was loaded from the source; ``None`` without one.
        begun: Whether the module has trained, or resumed a run that has.
    """

    def __init__(self, init_from: str | None, provenance: dict[str, Any] | None) -> None:
        self.file = None if init_from is None else OpenedSource(init_from)
        self.provenance = provenance
        self.report: TransferReport | None = None
        self.begun = False
        self._missing: CheckpointError | None = None
        # an untrained module's weights while an evaluation uses others, and what goes with them
        self._kept: tuple[Mapping[str, Tensor], dict[str, Any]] | None = None
        self._heads: dict[str, Sequence[str]] = {}  # class names of heads from the source
        self._groups: dict[str, Mapping[str, str]] = {}

    def load(self, module: SharedBackboneModule) -> None:
        """Load the source's weights into backbone and heads, as the module's arguments say.

        A source that cannot be read is an error only once its weights are needed: a run that
        resumes replaces them.

        Raises:
            ValueError: If the source does not fit the backbone or the heads.
        """
        if self.file is None or _RESTORED.get():
            return
        try:
            report = load_weights(
                module.backbone, self.file, rename=module.rename, reinit=module.reinit
            )
            spread_missing(module.backbone, report.loaded)
            self.report, self.provenance = report, report.record()
            if module.init_heads:
                taken = load_heads(module.heads, self.file, module.tasks)
                self._heads = {task: head.class_names for task, head in taken.items()}
                self._groups = {task: head.groups for task, head in taken.items()}
        except WeightsMismatchError:
            raise
        except CheckpointError as error:
            rank_zero_warn(f"{error} Without it, this model can only resume from a checkpoint.")
            self._missing = error

    def need(self) -> None:
        """Refuse to compute with random weights in place of the source's.

        Raises:
            CheckpointError: If the source could not be read and no other weights were loaded.
        """
        if self._missing is not None:
            raise self._missing

    def replaced(self) -> None:
        """Record that other weights were loaded."""
        self._missing = None

    def begin(self) -> bool:
        """Record that training begins; return whether it is the first time."""
        first, self.begun = not self.begun, True
        self.close()
        return first

    def close(self) -> None:
        """Release the memory of the source's file, after all have read it."""
        if self.file is not None:
            self.file.close()

    def resume(self, record: Mapping[str, Any]) -> None:
        """Restore what a checkpoint records of its initial weights."""
        self.begun = bool(record.get("begun", True))
        if self.begun:
            self.report = None
        self.provenance = record.get("provenance")

    # An evaluation before any training

    def keep(self, module: SharedBackboneModule, provenance: dict[str, Any] | None) -> None:
        """Store the source's weights, which those of an evaluated checkpoint are about to replace.

        Args:
            module: The module.
            provenance: Where the checkpoint's weights came from.
        """
        has_source = self.file is not None or getattr(module.backbone, "pretrained", False)
        if not self.begun and has_source and self._kept is None:
            state = {name: value.detach().clone() for name, value in module.state_dict().items()}
            with_it = ("provenance", "report", "_missing")
            self._kept = state, {name: vars(self)[name] for name in with_it}
        self.provenance = provenance

    def restore(self, module: SharedBackboneModule) -> None:
        """Return to the source if an evaluation used other weights before any training."""
        kept, self._kept = self._kept, None
        if kept is not None:
            module.load_state_dict(kept[0], strict=False)  # penalties read the source again
            vars(self).update(kept[1])

    # Heads

    def order_heads(self, module: SharedBackboneModule) -> None:
        """Reorder the rows of the source's heads by class name, once the data's are known."""
        here = as_here(class_names(module.datamodule), module.tasks) if self._heads else {}
        if not here:
            return
        groups = getattr(module.datamodule, "task_groups", {})
        check_groups(self._groups, as_here(groups, module.tasks))
        for task in order_heads(module.heads, self._heads, here):
            rank_zero_info(
                f"tl: the source's head of {task!r} had its classes in another order; its rows "
                "were reordered by class name."
            )
        for task in [task for task, names in self._heads.items() if not names]:
            if not isinstance(module.tasks[task], Classification):
                continue
            rank_zero_warn(
                f"The source's head of {task!r} does not name its classes: they are assumed to be "
                "those of the data, in the same order."
            )
        known = {task: here[task] for task in self._heads if here.get(task)}
        self._heads = {**self._heads, **known}

    def log(self, module: SharedBackboneModule) -> None:
        """Log what was loaded from the source, at the start of the first training."""
        if self.begun or self.report is None:
            return
        rank_zero_info(self.report.table())
        if module.init_heads:
            taken = self._heads
            new = [task for task in module.heads if task not in taken]
            line = f"tl: heads of {', '.join(taken)} from the source"
            rank_zero_info(f"{line}, new ones for {', '.join(new)}." if new else f"{line}.")
