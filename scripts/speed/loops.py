"""Loops by hand, to set beside the framework: the bare one, one with two passes, the article's."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from tl import MultiTaskDataModule, MultiTaskModule
from tl.data.images.pipeline import Pipeline
from tl.data.images.resident import ResidentDataset
from tl.data.loaders import EpochSampler
from tl.modules import WarmupCosine
from tl.optim.optimizers import fused
from tl.optim.param_groups import named_groups


class Bare:
    """The loop one would write: the same tensors, network, optimizer and schedule, nothing else.

    Args:
        module: The framework's module before its first step; its network is copied.
        data: Its data, set up.
        steps: Steps of a round that are timed, after one that is not.
        rounds: Rounds, which the schedule spans.
        joint: One pass of the backbone over all images, or one per source.

    Attributes:
        first_at: Time of day at the end of the first step of all; 0 before.
    """

    first_at = 0.0

    def __init__(
        self,
        module: MultiTaskModule,
        data: MultiTaskDataModule,
        steps: int,
        rounds: int,
        *,
        joint: bool = True,
    ) -> None:
        self.device = module.device
        self.backbone = copy.deepcopy(module.backbone).train()
        self.heads = copy.deepcopy(module.heads).train()
        self.steps, self.joint, self.round = steps, joint, 0
        self.optimizer = fused(
            torch.optim.SGD(
                named_groups(self.backbone, self.heads),
                lr=0.2,
                momentum=0.9,
                nesterov=True,
                weight_decay=5e-4,
            )
        )
        self.schedule = WarmupCosine(self.optimizer, rounds * (steps + 1), warmup=0.1)
        self.sources = [
            Source(name, source, steps + 1, self.device) for name, source in data.sources.items()
        ]
        self.losses: list[Tensor] = []

    def run(self) -> float:
        """Train a round; returns the seconds of one step."""
        for source in self.sources:
            source.begin(self.round)
        self.losses = []
        start = 0.0
        for number in range(self.steps + 1):
            self.losses.append(self._step(number))
            if number == 0:
                start = now(self.device)
                self.first_at = self.first_at or time.time()
        self.round += 1
        return (now(self.device) - start) / self.steps

    def _step(self, number: int) -> Tensor:
        batches = [source.batch(self.round, number) for source in self.sources]
        with autocast(self.device):
            if self.joint:
                features = self.backbone(torch.cat([images for images, _ in batches]))
                parts = features.split([len(images) for images, _ in batches])
            else:
                parts = [self.backbone(images) for images, _ in batches]
            losses = [
                functional.cross_entropy(head(part).float(), labels)
                for head, part, (_, labels) in zip(self.heads.values(), parts, batches, strict=True)
            ]
            loss = torch.stack(losses).sum()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()


class Source:
    """Batches of one source, in the framework's order, from the same tensors."""

    def __init__(self, name: str, data: Any, steps: int, device: torch.device) -> None:  # noqa: ANN401
        split = data.splits["train"]
        self.pipeline = Pipeline(name, data.settings, data.statistics)
        stored = self.pipeline.stored("train", split, device)
        if stored is None:
            raise ValueError(f"The images of {name} do not fit on {device}.")
        self.stored = stored
        self.sampler = EpochSampler(
            split,
            batch_size=data.settings.batch_size,
            steps_per_epoch=steps,
            seed=data.settings.seed,
            device=device,
        )
        self.order: Iterator[Tensor] = iter(())

    def begin(self, epoch: int) -> None:
        """Start an epoch."""
        self.sampler.set_epoch(epoch)
        self.order = iter(self.sampler)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return images, augmented and normalised, and labels."""
        batch = self.stored[next(self.order)]
        draws = self.pipeline.draws(batch, epoch, step, 0)
        images, labels = self.pipeline.transform(batch, draws)
        if not isinstance(labels, Tensor):
            raise TypeError("The benchmark wants one target per source.")
        return images, labels


class Article:
    """The article's loop, from its description.

    Batches of 4, two loaders zipped, a forward pass for each task, ``.item()`` at every step.

    Args:
        backbone: Images to features, of any length.
        features: Their length.
        data: The images.
        steps: Steps of a round that are timed, after one that is not.
        device: Where it trains.
    """

    BATCH = 4

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        data: MultiTaskDataModule,
        steps: int,
        device: torch.device,
    ) -> None:
        self.device, self.steps = device, steps
        self.backbone = backbone.to(device)
        heads = [nn.Linear(features, n) for n in data.num_classes.values()]
        self.heads = nn.ModuleList(heads).to(device)
        self.loaders = [
            DataLoader(PilImages(source), batch_size=self.BATCH, shuffle=True)
            for source in data.sources.values()
        ]
        parameters = [*self.backbone.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
        self.criterion = nn.CrossEntropyLoss()
        self.running = 0.0

    def run(self) -> float:
        """Train a round; returns the seconds of one step of 8 images."""
        start = 0.0
        for number, batches in enumerate(zip(*self.loaders, strict=False)):
            self.optimizer.zero_grad()
            loss = torch.zeros((), device=self.device)
            for head, (images, labels) in zip(self.heads, batches, strict=True):
                outputs = head(self.backbone(images.to(self.device)))
                loss = loss + self.criterion(outputs, labels.to(self.device))
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.running += loss.item()
            if number == 0:
                start = now(self.device)
            if number == self.steps:
                break
        return (now(self.device) - start) / self.steps


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images transformed one by one, as tutorials do."""

    def __init__(self, source: Any) -> None:  # noqa: ANN401 - a data module of one source
        split = source.splits["train"]
        if not isinstance(split, ResidentDataset):
            raise TypeError("The benchmark wants images in memory.")
        self.pixels = split.pixels(split.index).numpy()
        self.labels = next(iter(split.targets.values())).tolist()
        mean, std = ((value / 255).tolist() for value in source.statistics)
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4, padding_mode="reflect"),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one image and its label."""
        image = self.transform(Image.fromarray(np.asarray(self.pixels[index])))
        return image, self.labels[index]


def data_path(data: MultiTaskDataModule, device: torch.device, rounds: int) -> list[float]:
    """Time images a second of the framework's data path over those of PIL, one by one, by round."""
    name, source = next(iter(data.sources.items()))
    ours, theirs = Source(name, source, 10_000, device), PilImages(source)
    ours.begin(0)
    ratios = []
    for number in range(rounds + 1):
        start = now(device)
        for step in range(20):
            images, _ = ours.batch(0, step)
        fast = (now(device) - start) / 20 / len(images)
        start = time.perf_counter()
        batch = torch.stack([theirs[i][0] for i in range(number * 64, number * 64 + 64)])
        slow = (time.perf_counter() - start) / len(batch)
        if number:
            ratios.append(slow / fast)
    return ratios


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The precision that the framework chooses: bf16 on a GPU."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def now(device: torch.device) -> float:
    """Seconds, when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
