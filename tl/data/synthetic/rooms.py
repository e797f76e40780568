"""Synthetic rooms as a data source: classes, depth and normals of pixels, and objects."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tl.data.images.augment import Augment
from tl.data.images.resident import mixed_seed
from tl.data.shifts.shift import Shift
from tl.data.synthetic.scenes import OBJECTS, SURFACES, Look, draw_scenes
from tl.data.tensors import TensorDataModule
from tl.tasks import Classification, Depth, Normals, Segmentation, Task

_MEAN_DEPTH = 3.25  # metres, of both looks
_TASKS = ("segmentation", "depth", "normals", "objects")


class SyntheticScenesDataModule(TensorDataModule):
    """Rooms with spheres, boxes and cylinders, drawn from a seed with the exact truth.

    One image has four answers: ``segmentation`` (wall, floor, ceiling, sphere, box, cylinder),
    ``depth`` in metres, ``normals``, and ``objects``, which kinds are seen (several labels). See
    `tl.data.synthetic.scenes.draw_scenes` for what is drawn.

    Args:
        tasks: Which of ``segmentation``, ``depth``, ``normals`` and ``objects`` to learn; or tasks
            of one's own, whose `target` is one of these.
        train_size: Scenes that train and validate.
        test_size: Scenes that test.
        size: Pixels of both sides.
        objects: The most objects in a room.
        texture: 0 to 1: contrast of the checks on all surfaces.
        light: 0 to 1: how much the direction of the lamp varies.
        noise: Deviation of the noise on pixels, of a range of 1.
        look: ``day`` or ``night``: two domains, each with rooms of its own.
        batch_size: Scenes per process and step.
        val_size: Share of the training scenes that validates.
        seed: Seed of the split and of the order, default 0; on the command line, that of
            `seed_everything`.
        draw_seed: Seed of the scenes, apart from `seed`, so that runs with several seeds see the
            same ones.
        augment: Random crop, flip and cutout of training scenes; all targets move with them. Off
            by default.
        shift: Shows all scenes as another camera, another weather or another style would: name and
            severity from 1 to 5.

    Raises:
        ValueError: If an option is out of range, or there is no such task.
    """

    described_as = "scenes"

    def __init__(
        self,
        tasks: tuple[str | Task, ...] = _TASKS,
        train_size: int = 5000,
        test_size: int = 1000,
        size: int = 64,
        objects: int = 4,
        texture: float = 0.5,
        light: float = 0.5,
        noise: float = 0.03,
        look: Look = "day",
        batch_size: int = 32,
        val_size: float = 0.1,
        seed: int | None = None,
        draw_seed: int = 0,
        augment: Augment | None = None,
        shift: Shift | None = None,
    ) -> None:
        for name, value in (("train_size", train_size), ("test_size", test_size)):
            if value < 1:
                raise ValueError(f"`{name}` must be 1 or more, got {value}.")
        self.train_size, self.test_size, self.size = train_size, test_size, size
        self.draw_seed = draw_seed
        self.dials: dict[str, Any] = {
            "objects": objects,
            "texture": texture,
            "light": light,
            "noise": noise,
            "look": look,
        }
        draw_scenes(1, 1, **self.dials)  # raises early
        self._drawn: tuple[Any, ...] = ()  # what the scenes in memory were drawn by
        super().__init__(
            *(None, None, [_task(each) for each in tasks], batch_size, val_size),
            seed=seed,
            augment=augment,
            shift=shift,
        )

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes by task."""
        known = {"segmentation": SURFACES, "objects": OBJECTS}
        return {task.name: known[task.target] for task in self.tasks if task.target in known}

    @property
    def statistics(self) -> tuple[Tensor, Tensor] | None:
        """Mean and deviation per channel that images are normalised by, once scenes are drawn."""
        return (self._statistics or {}).get("")

    def setup(self, stage: str) -> None:
        """Draw what is not drawn yet, and split it."""
        wanted = (self.train_size, self.test_size, self.size, self.draw_seed, *self.dials.values())
        if self._drawn != wanted:
            if self._drawn:
                self._clear()
            train = self._draw("train", self.train_size)
            self._given = (*train, *self._draw("test", self.test_size))
            self._drawn = wanted
        super().setup(stage)

    def _draw(self, split: str, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        seed = mixed_seed(split, self.draw_seed)
        scenes = draw_scenes(count, self.size, seed=seed, **self.dials)
        return scenes.images, {name: getattr(scenes, name) for name in _TASKS}

    @property
    def fingerprint(self) -> str:
        """A hash of the scenes that train and validate."""
        return super().fingerprint.replace("real:", "generated:", 1)

    def describe(self) -> dict[str, Any]:
        """Return in plain types what was drawn, for reports, dashboards and checkpoints."""
        drawn = {"size": self.size, "draw_seed": self.draw_seed, **self.dials}
        return {**super().describe(), "kind": "generated", "scenes": drawn}


def _task(task: str | Task) -> Task:
    if isinstance(task, Task):
        if task.target not in _TASKS:
            raise ValueError(
                f"The `target` of task {task.name!r} must be one of {', '.join(_TASKS)}, got "
                f"{task.target!r}."
            )
        return task
    made: dict[str, Task] = {
        "segmentation": Segmentation("segmentation", len(SURFACES), target="segmentation"),
        "depth": Depth("depth", target="depth", start=_MEAN_DEPTH),
        "normals": Normals("normals", target="normals"),
        "objects": Classification("objects", len(OBJECTS), target="objects", multi_label=True),
    }
    if task not in made:
        raise ValueError(f"A task of the scenes is one of {', '.join(made)}, got {task!r}.")
    return made[task]
