"""What a module takes in from checkpoints, and what it keeps in its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import local_file, read_checkpoint
from tl.data.trained_on import same_names
from tl.modules.batch_norm import SourceBatchNorm2d
from tl.modules.fine_tuning import FineTunedModule
from tl.modules.resuming import Resuming, metrics_at
from tl.modules.window import Window
from tl.private.torch import drop_functions
from tl.tasks import Classification, as_task
from tl.transfer.source import check_groups, load_heads, order_heads
from tl.transfer.weights import TransferReport, WeightsMismatchError, load_weights

FORMAT = 1
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
class _SourceStart:
    """The start of a module that has not trained, while an evaluation uses other weights."""

    state: Mapping[str, Tensor]
    provenance: dict[str, Any] | None
    report: TransferReport | None
    missing: CheckpointError | None


class CheckpointedModule(FineTunedModule):
    """A module that starts from a source's weights, or resumes from a checkpoint of its own.

    The source's weights come in when the module is built. Training changes them from there on: a
    second `fit` continues from the first. An evaluation of another checkpoint does not: a module
    that has not trained yet still starts from its source.

    Attributes:
        provenance: Where the start weights came from, and where those came from; ``None`` for
            random ones.
        transfer_report: What was loaded of the source; ``None`` without one.
    """

    reinit: Sequence[str]
    provenance: dict[str, Any] | None
    transfer_report: TransferReport | None
    _taken_heads: Mapping[str, Sequence[str]] = MappingProxyType({})
    _taken_groups: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    _window: Window
    _trained_on: Mapping[str, Any] | None = None
    _missing: CheckpointError | None = None
    _source_start: _SourceStart | None = None
    _resuming: Resuming | None = None

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is a descriptor of its own
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - Lightning's signature
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - arguments of the constructor, as there
    ) -> Self:
        """Build a module from a checkpoint that is verified first; no code from it runs.

        Lightning's own runs code from an address, and from any file where
        ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` is set.

        Args:
            checkpoint_path: The checkpoint, or its address.
            map_location: As in Lightning.
            hparams_file: As in Lightning.
            strict: As in Lightning.
            weights_only: Not used; always on.
            **kwargs: As in Lightning.

        Raises:
            CheckpointError: If it is missing, damaged or unsafe.
        """
        del weights_only
        path = local_file(checkpoint_path)
        read_checkpoint(path)
        with weights_follow():
            loaded: Self = super().load_from_checkpoint(
                path, map_location, hparams_file, strict, weights_only=True, **kwargs
            )
        return loaded

    # The source

    def start_from_source(self) -> None:
        """Bring in the source's weights; to be called once, in the constructor.

        A source that cannot be read is an error only where its weights are needed: a run that
        resumes replaces them.

        Raises:
            ValueError: If the source does not fit the backbone or the heads.
        """
        if self.init_from is None or _RESTORED.get():
            return
        try:
            self._load_source(self.init_from)
        except WeightsMismatchError:
            raise
        except CheckpointError as error:
            rank_zero_warn(f"{error} Without it, this model can only resume from a checkpoint.")
            self._missing = error

    def need_source(self) -> None:
        """Refuse to compute with random weights in the place of the source's.

        Raises:
            CheckpointError: If the source could not be read and no other weights have come in.
        """
        if self._missing is not None:
            raise self._missing

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torch's own
        """Load weights, which take the place of the source's."""
        found = super().load_state_dict(state_dict, *args, **kwargs)
        self._missing = None
        return found

    def setup(self, stage: str) -> None:
        """Return to the source, where an evaluation has used other weights before any training."""
        start, self._source_start = self._source_start, None
        if stage == "fit" and start is not None:
            self.load_state_dict(start.state, strict=False)  # what a penalty has read comes anew
            self.provenance, self.transfer_report = start.provenance, start.report
            self._missing = start.missing
        elif start is not None:
            self._source_start = start
        super().setup(stage)
        self._order_heads()

    def _order_heads(self) -> None:
        """Let the rows of the source's heads answer the data's classes, once these are known."""
        here = self._class_names()
        if not self._taken_heads or not here:
            return
        groups = getattr(self._datamodule(), "task_groups", {})
        if len(here) == len(self.tasks) == 1:  # the same task, whatever each calls it
            here = dict(zip(self.tasks, here.values(), strict=True))
            groups = dict.fromkeys(self.tasks, next(iter(groups.values()), {}))
        check_groups(self._taken_groups, groups)
        for task in order_heads(self.heads, self._taken_heads, here):
            rank_zero_info(
                f"tl: the source's head of {task!r} had its classes in another order; its rows "
                "follow their names."
            )
        for task in [task for task, names in self._taken_heads.items() if not names]:
            if not isinstance(self.tasks[task], Classification):
                continue
            rank_zero_warn(
                f"The source's head of {task!r} does not say which classes it answers: they are "
                "taken to be those of the data, in the same order."
            )
        known = {task: here[task] for task in self._taken_heads if here.get(task)}
        self._taken_heads = {**self._taken_heads, **known}

    def on_fit_start(self) -> None:
        """Report what was loaded of the source, at the start of its first training."""
        self.need_source()
        if not self._begun and self.transfer_report is not None:
            rank_zero_info(self.transfer_report.table())
            self._say_heads()

    def on_train_start(self) -> None:
        """Bring the Trainer of a run that resumes to where its checkpoint was saved."""
        super().on_train_start()
        resuming, self._resuming = self._resuming, None
        if resuming is not None:
            resuming.begin(self.trainer, self)

    def on_validation_start(self) -> None:
        """See that there are weights to evaluate."""
        self.need_source()

    def on_test_start(self) -> None:
        """See that there are weights to evaluate."""
        self.need_source()

    def on_predict_start(self) -> None:
        """See that there are weights to predict with."""
        self.need_source()

    def _load_source(self, path: str) -> None:
        report = load_weights(self.backbone, path, rename=self.rename, reinit=self.reinit)
        for name, layer in self.backbone.named_modules():
            if isinstance(layer, SourceBatchNorm2d):
                found = {s for s in layer.sources if f"{name}.running_mean_{s}" in report.loaded}
                layer.spread([s for s in layer.sources if s not in found])
        self.transfer_report = report
        self.provenance = report.record()
        if self.init_heads:
            taken = load_heads(self.heads, path, self.tasks)
            self._taken_heads = {task: head.class_names for task, head in taken.items()}
            self._taken_groups = {task: head.groups for task, head in taken.items()}

    def _say_heads(self) -> None:
        if self.init_heads:
            taken = self._taken_heads
            new = [task for task in self.heads if task not in taken]
            line = f"tl: heads of {', '.join(taken)} from the source"
            rank_zero_info(f"{line}, new ones for {', '.join(new)}." if new else f"{line}.")

    # Checkpoints

    def _datamodule(self) -> LightningDataModule | None:
        return getattr(self.trainer, "datamodule", None) if self._trainer is not None else None

    def _class_names(self) -> Mapping[str, Sequence[str]]:
        """Return class names by task, as far as the data tell them yet."""
        data = self._datamodule()
        return {} if getattr(data, "waits", False) else getattr(data, "class_names", {})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep, in plain types under ``tl``, what the weights are and where they came from."""
        drop_functions(checkpoint)
        data = self._datamodule()
        describe = getattr(data, "describe", None)
        checkpoint["tl"] = {
            "window": self._window.state(self.trainer.strategy.reduce, self.device),
            "format": FORMAT,
            "begun": self._begun,
            "metrics": metrics_at(self.trainer),
            "skipped_steps": self.guard.skipped,
            "processes": self.trainer.world_size,
            "tasks": [task.record() for task in self.tasks.values()],
            "data": describe() if callable(describe) else None,
            "provenance": self.provenance,
            "statistics": self.statistics_at_start(),
            "thaws": self.thaws(),
            "class_names": {k: list(v) for k, v in getattr(data, "class_names", {}).items()},
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the provenance, and where the run stands that resumes.

        Raises:
            ValueError: If that run had other tasks.
        """
        record = checkpoint.get("tl", {})
        self._trained_on = record.get("data")
        if self._trainer is not None and self.trainer.state.fn not in (None, "fit"):
            self.adopt_for(str(self.trainer.state.fn.value))
        self._rename_task(checkpoint)
        there = {task["name"]: as_task(task).answers for task in record.get("tasks", ())}
        there = self._renamed(there)
        here = {task.name: task.answers for task in self.tasks.values()}
        if there and there != here:
            said = [", ".join(f"{k} ({n})" for k, n in t.items()) for t in (there, here)]
            raise ValueError(
                f"The checkpoint has the tasks {said[0]}, this model {said[1]}. To start from its "
                "weights, or to add a task, give it by `init_from`, with `init_heads` for the "
                "heads of tasks that stay."
            )
        if self._trainer is not None and self.trainer.state.fn != "fit":
            self._keep_start()
            self.provenance = record.get("provenance")
            return
        if self._trainer is not None:
            self._resuming = Resuming(checkpoint, self.trainer)
        self._begun = bool(record.get("begun", True))
        if self._begun:
            self.transfer_report = None
        self._say_other_processes(record.get("processes"))
        self.guard.skipped = int(record.get("skipped_steps", 0))
        # sums of all processes, which the first one takes over
        if self._trainer is not None and self.trainer.is_global_zero:
            self._window.load(self._renamed(record.get("window", {})))
        self.provenance = record.get("provenance")
        self.resume_statistics(record.get("statistics", {}))
        self.resume_thaws(record.get("thaws", {}))

    def _renamed(self, there: dict[str, Any]) -> dict[str, Any]:
        """Call the only task there what the only one here is called."""
        if len(there) == len(self.tasks) == 1:
            return dict(zip(self.tasks, there.values(), strict=True))
        return there

    def _rename_task(self, checkpoint: dict[str, Any]) -> None:
        """Give the only head of a checkpoint the name of the only task here.

        It is the same task if the classes are, whatever folder it was named after.

        Raises:
            ValueError: If the classes differ; names both.
        """
        record = checkpoint.get("tl", {})
        there = [task["name"] for task in record.get("tasks", ())]
        if len(there) != 1 or len(self.tasks) != 1 or there[0] in self.tasks:
            return
        [name] = self.tasks
        names = record.get("class_names", {}).get(there[0])
        found = self._class_names()
        if names is not None and len(found) == 1:
            same_names(names, next(iter(found.values())), "classes")
        for part in ("heads.", "penalties."):
            old, new = f"{part}{there[0]}.", f"{part}{name}."
            for key in [k for k in checkpoint["state_dict"] if k.startswith(old)]:
                checkpoint["state_dict"][new + key.removeprefix(old)] = checkpoint[
                    "state_dict"
                ].pop(key)

    def on_train_end(self) -> None:
        """Know the data that the weights now come from, for an evaluation on others."""
        super().on_train_end()
        describe = getattr(self._datamodule(), "describe", None)
        self._trained_on = describe() if callable(describe) else None

    def adopt_for(self, stage: str) -> None:
        """Let the data be read as these weights were trained, before they are evaluated.

        What a checkpoint says of its data holds until the module trains again.
        """
        data = self._datamodule()
        if stage == "fit":
            self._trained_on = None
        adopt = getattr(data, "adopt", None)
        if self._trained_on and data is not None and callable(adopt):
            adopt(self._trained_on)  # does nothing where the data are read so already
            data.setup(stage)

    def _keep_start(self) -> None:
        """Keep a source's weights, which those of an evaluated checkpoint are about to replace."""
        has_source = self.init_from is not None or getattr(self.backbone, "pretrained", False)
        if self._begun or not has_source or self._source_start is not None:
            return
        state = {name: value.detach().clone() for name, value in self.state_dict().items()}
        self._source_start = _SourceStart(
            state, self.provenance, self.transfer_report, self._missing
        )

    def _say_other_processes(self, there: int | None) -> None:
        """Say if a run goes on with more or fewer of them, as `devices: auto` has it elsewhere."""
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        here = self.trainer.world_size
        if there not in (None, here):
            rank_zero_info(
                f"tl: {there} processes there, {here} here: a step has another number of images, "
                "and an epoch another number of steps."
            )
