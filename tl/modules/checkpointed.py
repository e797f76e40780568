"""What a checkpoint records of a run, and what a module restores from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lightning.pytorch.utilities import rank_zero_info

from tl.counting import counted
from tl.data.trained_on import same_names
from tl.modules.resuming import Resuming, metrics_at
from tl.tasks import Task, as_task

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

FORMAT = 1
T = TypeVar("T")


class RunRecord:
    """The run that a module's weights come from: its data, and its progress if it resumes."""

    def __init__(self) -> None:
        self._trained_on: Mapping[str, Any] | None = None
        self._resuming: Resuming | None = None

    @staticmethod
    def write(module: SharedBackboneModule, **parts: Any) -> dict[str, Any]:  # noqa: ANN401 - plain types
        """Return, in plain types, what the weights are and where they came from.

        Args:
            module: The module, with a Trainer.
            **parts: Records of its collaborators.
        """
        data = module.datamodule
        return {
            "format": FORMAT,
            "metrics": metrics_at(module.trainer),
            "processes": module.trainer.world_size,
            "tasks": [task.record() for task in module.tasks.values()],
            "data": description_of(data),
            "class_names": {k: list(v) for k, v in getattr(data, "class_names", {}).items()},
            **parts,
        }

    def read(self, module: SharedBackboneModule, checkpoint: dict[str, Any]) -> Mapping[str, Any]:
        """Return the record in a checkpoint; a single task gets the name that it has here.

        Raises:
            ValueError: If the checkpoint has other tasks.
        """
        record: dict[str, Any] = checkpoint.get("tl", {})
        self._trained_on = record.get("data")
        if module.run is not None and module.run.state.fn not in (None, "fit"):
            self.adopt(module, str(module.run.state.fn.value))
        _rename_task(module, checkpoint)
        there = {task["name"]: as_task(task).answers for task in record.get("tasks", ())}
        there = as_here(there, module.tasks)
        here = {task.name: task.answers for task in module.tasks.values()}
        if there and there != here:
            said = [", ".join(f"{k} ({n})" for k, n in t.items()) for t in (there, here)]
            raise ValueError(
                f"The checkpoint has the tasks {said[0]}, this model {said[1]}. To start from its "
                "weights, or to add a task, pass it as `init_from`, with `init_heads` for the "
                "heads of the tasks that remain."
            )
        return {**record, "window": as_here(record.get("window", {}), module.tasks)}

    def resume(self, module: SharedBackboneModule, checkpoint: Mapping[str, Any]) -> None:
        """Read the progress of the run that resumes."""
        trainer = module.run
        if trainer is None:
            return
        self._resuming = Resuming(checkpoint, trainer)
        there, here = checkpoint.get("tl", {}).get("processes"), trainer.world_size
        if trainer.state.fn == "fit" and there not in (None, here):
            rank_zero_info(
                f"tl: the checkpoint is from {counted(there, 'process', 'processes')}, this run "
                f"has {here}: the number of "
                "samples per step and of steps per epoch changes."
            )

    def begin(self, module: SharedBackboneModule) -> None:
        """Bring the Trainer of a run that resumes to the point where its checkpoint was saved."""
        resuming, self._resuming = self._resuming, None
        if resuming is not None:
            resuming.begin(module.trainer, module)

    def end(self, module: SharedBackboneModule) -> None:
        """Record the data that the weights now come from, for an evaluation on others."""
        self._trained_on = description_of(module.datamodule)

    def adopt(self, module: SharedBackboneModule, stage: str) -> None:
        """Have the data read as they were when these weights trained, before an evaluation.

        A checkpoint's description of its data applies until the module trains again.
        """
        data = module.datamodule
        if stage == "fit":
            self._trained_on = None
        adopt = getattr(data, "adopt", None)
        if not self._trained_on or data is None or not callable(adopt):
            return
        if adopt(self._trained_on) is not False:  # else they are read so already
            data.setup(stage)


def class_names(data: object) -> Mapping[str, Sequence[str]]:
    """Return class names by task, as far as the data know them yet."""
    return {} if getattr(data, "waits", False) else getattr(data, "class_names", {})


def description_of(data: object) -> Any:  # noqa: ANN401 - plain types
    """Return what data say of themselves, in plain types; ``None`` if they say nothing."""
    describe = getattr(data, "describe", None)
    return describe() if callable(describe) else None


def as_here(there: Mapping[str, T], tasks: Mapping[str, Task]) -> dict[str, T]:
    """Return values by task; a single value belongs to the single task, whatever its name.

    Args:
        there: Values by the names that a checkpoint or the data have for the tasks.
        tasks: The tasks here, by name.
    """
    if len(there) == len(tasks) == 1:
        return dict(zip(tasks, there.values(), strict=True))
    return dict(there)


def _rename_task(module: SharedBackboneModule, checkpoint: dict[str, Any]) -> None:
    """Give the only head of a checkpoint the name of the only task here.

    Both are the same task if their classes are, whatever folder it was named after.

    Raises:
        ValueError: If the classes differ; lists both.
    """
    record = checkpoint.get("tl", {})
    there = [task["name"] for task in record.get("tasks", ())]
    if len(there) != 1 or len(module.tasks) != 1 or there[0] in module.tasks:
        return
    [name] = module.tasks
    names = record.get("class_names", {}).get(there[0])
    found = class_names(module.datamodule)
    if names is not None and len(found) == 1:
        same_names(names, next(iter(found.values())), "classes")
    state = checkpoint["state_dict"]
    for part in ("heads.", "penalties."):
        old, new = f"{part}{there[0]}.", f"{part}{name}."
        for key in [k for k in state if k.startswith(old)]:
            state[new + key.removeprefix(old)] = state.pop(key)
