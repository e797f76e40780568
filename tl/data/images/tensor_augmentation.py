"""Augmentation of arrays that are images with any number of channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tl.batch import Inputs
from tl.data.errors import DataError
from tl.data.images.augment import Augment
from tl.data.images.pipeline import Pipeline
from tl.data.settings import Settings
from tl.tasks import Task

_DIMENSIONS = 4  # of images (N, C, H, W)


class TensorAugmentation:
    """Crops, mirrors and cuts out images, and moves the targets that lie on their pixels.

    Each input ``(N, C, H, W)`` is an image. Several images of a sample move alike; other inputs
    stay as they are.

    Args:
        settings: The augmentation.
        seed: Seed of its random numbers.
        inputs: All training samples, one array or a dict of them.
        targets: Their targets, likewise.
        tasks: What is learned; those with ``on_pixels`` say which targets move.
        colours: Colour of cutout squares ``(C,)`` by name of the input, as the network sees it.

    Raises:
        DataError: If no input is an image, images differ in size or are smaller than the padding,
            or a target on the pixels has another size.
    """

    def __init__(
        self,
        settings: Augment,
        seed: int,
        inputs: Inputs,
        targets: Inputs,
        tasks: Iterable[Task],
        colours: Mapping[str, Tensor],
    ) -> None:
        parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
        images = {name: part for name, part in parts.items() if part.ndim == _DIMENSIONS}
        if not images:
            found = ", ".join(f"{name} {tuple(p.shape)}".strip() for name, p in parts.items())
            raise DataError(
                f"`augment` needs images (N, C, H, W), the inputs are {found}. Leave it out."
            )
        sizes = {tuple(part.shape[2:]) for part in images.values()}
        if len(sizes) > 1:
            raise DataError(
                "`augment` moves all images of a sample alike, so they must have one size; found "
                f"{', '.join(f'{high}x{wide}' for high, wide in sorted(sizes))}."
            )
        ((high, wide),) = sizes
        if settings.padding >= min(high, wide):
            raise DataError(
                f"`augment.padding` must be smaller than the images, got {settings.padding} for "
                f"{high}x{wide}."
            )
        tasks = [task for task in tasks if task.on_pixels]
        for task in tasks:
            target = targets.get(str(task.target)) if isinstance(targets, Mapping) else targets
            if target is None:
                continue  # the model says that its target is missing
            if target.ndim < _DIMENSIONS - 1 or tuple(target.shape[-2:]) != (high, wide):
                raise DataError(
                    f"`augment` moves the targets of task {task.name!r} with the pixels: they must "
                    f"be (N, {high}, {wide}) or (N, C, {high}, {wide}), got {tuple(target.shape)}."
                )
        self._pipelines: dict[str, Pipeline] = {}
        for name, part in images.items():
            as_they_are = (torch.zeros(part.shape[1]), torch.ones(part.shape[1]))
            self._pipelines[name] = Pipeline(
                "tensors",
                Settings(seed=seed, augment=settings),
                as_they_are,
                () if self._pipelines else tasks,  # targets move once
                colours[name],
            )

    def __call__(
        self, inputs: Inputs, targets: Inputs, epoch: int, step: int, rank: int
    ) -> tuple[Inputs, Inputs]:
        """Augment a training batch: a function of (seed, epoch, step, rank)."""
        parts = dict(inputs) if isinstance(inputs, Mapping) else {"": inputs}
        draws: Tensor | None = None
        for name, pipeline in self._pipelines.items():
            part = parts[name]
            if draws is None:
                draws = pipeline.draws((part, {}), epoch, step, rank)
            moved, targets = pipeline.transform((part, targets), draws)  # type: ignore[arg-type]
            parts[name] = moved.to(part.dtype)
        return (parts if isinstance(inputs, Mapping) else parts[""]), targets
