"""CIFAR in episodes: some classes train, others validate, others test."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl.data.cifar.cifar import CifarDataModule
from tl.data.cifar.subset import CifarSubsetDataModule
from tl.data.episode_sampler import EpisodeSampler, FixedEpisodes
from tl.data.errors import DataError, listed
from tl.data.images.resident import Batch, ImageDataset, mixed_seed
from tl.data.loaders import EpochSampler, make_loader
from tl.data.split import Split
from tl.data.trained_on import TrainedOn
from tl.tasks import Prototypes, Task

_OPTIONS = [each for each in fields(CifarDataModule) if each.init]


@dataclass(kw_only=True, eq=False)
class CifarFewShotDataModule(CifarSubsetDataModule):
    """CIFAR for few-shot training: each batch is an episode of some classes, `classes` in training.

    Validation and test are on episodes of other classes, the same in every epoch; `tl fewshot`
    tests more. The official training images train and validate, the official test images test. A
    batch has ``ways * (shots + queries)`` images, whatever `batch_size` and `eval_batch_size` say,
    and `val_size` does not count.

    Args:
        val_classes: Names of the classes that validate.
        test_classes: Names of those that test; by default the ones that validate.
        ways: Classes in an episode.
        shots: Supports of each class, whose mean is its prototype.
        queries: Further samples of each class, to answer.
        eval_episodes: Episodes of an evaluation, over all processes.

    Raises:
        ValueError: If a class does not exist, trains and is held out, or a number is too small.
    """

    val_classes: tuple[str, ...] | None = None
    test_classes: tuple[str, ...] | None = None
    ways: int = 5
    shots: int = 5
    queries: int = 15
    eval_episodes: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("eval_episodes", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be {least} or more, got {getattr(self, name)}.")
        if self.learns is not None or self.labels == "none":
            raise ValueError("Episodes read labels; leave `learns` out, and `labels` at 'all'.")
        known = self._official().names
        for name in ("val_classes", "test_classes"):
            given = getattr(self, name) or self.val_classes or ()
            if unknown := [each for each in given if each not in known]:
                raise ValueError(f"`{name}`: {self.name} has no class {listed(unknown)}.")
            if len(set(given)) < max(len(given), self.ways):
                raise ValueError(
                    f"`{name}` must name {self.ways} different classes or more, as an episode has, "
                    f"got {listed(given) or 'none'}."
                )
            if both := [each for each in given if each in (self.classes or ())]:
                raise ValueError(f"`{name}` and `classes` both name {listed(both)}.")

    def inherit(self, **given: Any) -> None:  # noqa: ANN401 - any type
        """Inherit settings that this source does not set; a batch is an episode."""
        super().inherit(**given)
        size = self.ways * (self.shots + self.queries)
        self.settings = replace(self.settings, batch_size=size, eval_batch_size=size)

    def whole(self) -> CifarDataModule:
        """Return the same images with all of their classes."""
        return CifarDataModule(**{each.name: getattr(self, each.name) for each in _OPTIONS})

    def official_splits(self) -> tuple[Split, ...]:
        """All three."""
        return ("train", "val", "test")

    def _label_tasks(self) -> tuple[Task, ...]:
        return (Prototypes(self.data_name, shots=self.shots),)

    def load(self, split: Split) -> ImageDataset:
        """Read the images of a part's classes, numbered within the part."""
        if split == "train":
            return super().load(split)
        names = (self.test_classes if split == "test" else None) or self.val_classes or ()
        data = CifarDataModule.load(self, "test" if split == "test" else "train")
        return self._only_of(data, [self._official().names.index(name) for name in names])

    def _divide(
        self, whole: ImageDataset, val_size: float, label_fraction: float, seed: int
    ) -> dict[str, ImageDataset]:
        """Keep all training images: other classes validate."""
        return super()._divide(whole, 0.0, label_fraction, seed)

    def _held_out(self, known: TrainedOn) -> dict[str, ImageDataset]:
        return {"val": self._read("val").only(self.target_classes())}

    def _episodes(self, data: ImageDataset, kind: type[EpisodeSampler], **given: Any) -> Any:  # noqa: ANN401
        return kind(
            data.targets["fine"],
            ways=self.ways,
            each=self.shots + self.queries,
            owner=self.data_name,
            num_replicas=self._world(),
            rank=self._rank(),
            **given,
        )

    def _train_sampler(
        self, data: ImageDataset, steps: int, device: torch.device | None
    ) -> EpochSampler:
        self._balanced(data)
        seed = self.settings.seed
        found: EpochSampler = self._episodes(
            data, EpisodeSampler, steps_per_epoch=steps, seed=seed, device=device
        )
        return found

    def _balanced(self, data: ImageDataset) -> Tensor | None:
        if self.settings.sampling == "balanced":
            raise DataError(
                f"{self.data_name}: every class of an episode has equally many images; leave "
                "`sampling: balanced` out."
            )
        return None

    def _in_order(self, split: str, batch_size: int | None = None) -> DataLoader[Batch]:
        """Return the fixed episodes of a split; images to predict come one after the other."""
        if split == "predict" or self._unread is not None:
            return super()._in_order(split, batch_size)
        data, stored = self.splits[split], self._stored(split)
        sampler = self._episodes(
            data,
            FixedEpisodes,
            steps_per_epoch=math.ceil(self.eval_episodes / self._world()),
            seed=mixed_seed(split, self.settings.seed),
            device=self._root_device() if stored else None,
        )
        return make_loader(stored or data, sampler, self.settings.num_workers)
