"""Targets that lie on the pixels move with the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional

from tl.data.errors import DataError
from tl.data.images.augment import Augment
from tl.data.images.resident import Targets
from tl.data.images.windows import reflected
from tl.data.images.zoom import gathered, zoom_of
from tl.tasks import Task

_SMALLEST = 3  # dimensions of (N, H, W)


class PixelTargets:
    """Moves the targets of a batch that lie on the pixels with its images.

    Args:
        tasks: The tasks of the source; those with ``on_pixels`` say which targets do, how these
            change size, and what a mirror image makes of them.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks: dict[str | None, Task] = {}
        for task in tasks:
            if task.on_pixels:
                self._tasks.setdefault(task.target, task)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._tasks)

    def __call__(
        self,
        targets: Targets,
        height: int,
        width: int,
        settings: Augment | None = None,
        draws: Tensor | None = None,
    ) -> Targets:
        """Resize targets to the images; crop, mirror and enlarge them like these.

        Cutout hides pixels from the network; their targets stay, so that it learns to fill them in.

        Args:
            targets: Those of a batch, a tensor or a dict by name.
            height: Of the images.
            width: Of the images.
            settings: The augmentation of the images.
            draws: Its random numbers ``(5 or 8, N)``; ``None`` for evaluation.

        Raises:
            DataError: If a target that lies on the pixels has no height and width.
        """

        def taken(task: Task, target: Tensor) -> Tensor:
            if target.ndim < _SMALLEST:
                raise DataError(
                    f"The targets of task {task.name!r} lie on the pixels and are of shape "
                    f"{tuple(target.shape)}; expected (N, H, W) or (N, C, H, W)."
                )
            target = fitted(target, height, width, task.resizes)
            if draws is None or settings is None:
                return target
            if settings.moves:
                target = moved(target, settings.padding, draws, task.flipped)
            zoom = zoom_of(settings, draws, height, width)
            return target if zoom is None else zoom.targets(target, task.enlarged)

        if not isinstance(targets, Mapping):
            task = next(iter(self._tasks.values()), None)
            return targets if task is None else taken(task, targets)
        return {
            name: taken(self._tasks[name], target) if name in self._tasks else target
            for name, target in targets.items()
        }


def model_tasks(data: LightningDataModule, source: str | None = None) -> list[Task]:
    """Return the training model's tasks on the pixels of these data.

    A model may be given tasks that its data do not name: their targets must move all the same.

    Args:
        data: The data module.
        source: Its name, where it is one of several sources.
    """
    trainer = data.trainer
    if trainer is None:
        return []
    given = getattr(trainer.lightning_module, "tasks", None) or ()
    alone = getattr(trainer, "datamodule", None) is data
    found = [*(given.values() if isinstance(given, Mapping) else given)]
    return [
        task
        for task in found
        if isinstance(task, Task) and task.on_pixels and (alone or task.source in (None, source))
    ]


def moved(
    target: Tensor,
    padding: int,
    draws: Tensor,
    flipped: Callable[[Tensor, int], Tensor] = lambda target, _: target,
) -> Tensor:
    """Crop and mirror targets as :func:`tl.data.images.augment.augment` does images.

    What lies in the reflected border of a crop is mirrored too.

    Args:
        target: ``(N, H, W)`` or ``(N, C, H, W)`` of any type.
        padding: Pixels of reflection around the images.
        draws: Random numbers of :func:`tl.data.images.augment.draw`.
        flipped: Gives the values of targets in a mirror image; see
            :meth:`tl.tasks.Task.flipped`.
    """
    height, width = target.shape[-2:]
    top, left, mirror = draws[:3, :, None]
    lines = torch.arange(height, device=target.device) - padding + top
    columns = torch.arange(width, device=target.device) - padding + left
    beyond, beside = (lines < 0) | (lines >= height), (columns < 0) | (columns >= width)
    rows = reflected(lines, height)
    found = gathered(target, rows, reflected(columns + mirror * (width - 1), width))
    for mask, dim in ((beside ^ (mirror > 0), -1), (beyond, -2)):
        changed = flipped(found, dim)
        if changed is not found:
            shape = [len(target), *[1] * (target.ndim - 1)]
            shape[dim] = -1
            found = torch.where(mask.view(shape), changed, found)
    return found


def fitted(target: Tensor, height: int, width: int, how: Literal["nearest", "bilinear"]) -> Tensor:
    """Resize and centre-crop targets to the size of their images, as `decode` does.

    Args:
        target: ``(N, H, W)`` or ``(N, C, H, W)``.
        height: Of the images.
        width: Of the images.
        how: ``nearest`` keeps values as they are; ``bilinear`` mixes neighbours, and gives a
            missing value (NaN) where one of them is missing.
    """
    high, wide = target.shape[-2:]
    if (high, wide) == (height, width):
        return target
    scale = min(high / height, wide / width)
    cut_high, cut_wide = round(height * scale), round(width * scale)
    above, before = (high - cut_high) // 2, (wide - cut_wide) // 2
    part = target[..., above : above + cut_high, before : before + cut_wide]
    if how == "nearest":
        for dim, size in ((-2, height), (-1, width)):
            centres = (torch.arange(size, device=target.device) + 0.5) * (part.shape[dim] / size)
            part = part.index_select(dim, centres.long())
        return part
    flat = part.reshape(len(part), -1, cut_high, cut_wide)
    resized = functional.interpolate(
        flat.float(), (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.to(target.dtype).view(*target.shape[:-2], height, width)
