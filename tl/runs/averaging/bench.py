"""A run's network and data, to estimate the statistics of averaged weights and to validate them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import nn

from tl.data.joint_loaders import JointLoaders
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source, source_of
from tl.modules.batch_norm import spread_missing
from tl.modules.checkpointed import description_of
from tl.private.torch import BatchNorm
from tl.runs.averaging.ingredients import State, fingerprints
from tl.runs.folders import build
from tl.tasks import deciding_score
from tl.transfer.weight_space import estimate_statistics


class Bench:
    """A run's network and data, to estimate an average's statistics and to validate it.

    Args:
        content: The last checkpoint; ``None`` if the weights of a run come from several.
        configurations: Its run's configuration.
        accelerator: As of Lightning's Trainer.
        estimate: Re-estimate running statistics.
        backbone_only: Re-estimate those of the backbone alone, and keep those of the heads.
    """

    def __init__(
        self,
        content: Mapping[str, Any] | None,
        configurations: Sequence[Path],
        accelerator: str,
        *,
        estimate: bool,
        backbone_only: bool = False,
    ) -> None:
        module, self.data = build(configurations)
        if not isinstance(module, SharedBackboneModule):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"{configurations[-1]}: `model` must be one of tl.modules, got "
                f"{type(module).__name__}."
            )
        self.module = module
        name, self.higher_is_better = deciding_score(module.tasks.values())
        self.metric = f"val/{name}"
        if content is not None:
            self.module.load_state_dict(content["state_dict"])
        parts: dict[str, nn.Module] = {"backbone": module.backbone}
        if not backbone_only:
            parts["heads"] = module.heads
        self.averaged = nn.ModuleDict(parts)
        self.estimates = estimate and _has_batch_norm(self.averaged)
        tasks = {} if backbone_only else module.trained_tasks
        # by name, those whose heads have statistics
        self.normalising = {n: t for n, t in tasks.items() if _has_batch_norm(module.head_of(n))}
        self.trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        self.data.prepare_data()
        record = None if content is None else content["tl"].get("data")
        if record and callable(adopt := getattr(self.data, "adopt", None)):
            adopt(record)  # the last one's training data and held-out images
        self.data.setup("validate")
        now, then = fingerprints(self.description()), fingerprints(record or {})
        if content is not None and now != then:
            raise ValueError(
                f"The last checkpoint was trained on {then}, but {configurations[-1]} gives "
                f"{now}. Name its run's configuration with --config, and keep the data where it "
                "expects them."
            )

    def description(self) -> dict[str, Any]:
        """Return the data's description of themselves, by source; empty if they have none."""
        return description_of(self.data) or {}

    def described(self) -> dict[str, Any] | None:
        """Describe what the statistics were estimated on; ``None`` if none were."""
        return {"estimated_on": fingerprints(self.description())} if self.estimates else None

    def with_statistics(self, state: State) -> State:
        """Return an average with all running statistics of the run's network, re-estimated."""
        self._load(state)
        if self.estimates:
            device = self.trainer.strategy.root_device
            self.module.to(device).train()
            with _without_trainer(self.data):
                estimate_statistics(self.averaged, self._batches(device), self._forward)
        everything = self.module.cpu().state_dict()
        buffers = {name for name, _ in self.averaged.named_buffers()}
        wanted = [name for name in everything if name in state or name in buffers]
        return {name: everything[name].clone() for name in wanted}

    def score(self, state: State) -> float:
        """Return the deciding validation score of an average."""
        return self.measure(self.with_statistics(state))[self.metric]

    def measure(self, state: State) -> dict[str, float]:
        """Return all validation metrics of weights as they are."""
        self._load(state)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about workers
            [metrics] = self.trainer.validate(self.module, self.data, verbose=False)
        return {name: float(value) for name, value in metrics.items()}

    def name(self, task: str) -> str:
        """Return the metric that decides for a task."""
        return self.module.metric("val", task, self.module.tasks[task].score)

    def _load(self, state: State) -> None:
        self.module.cpu().load_state_dict({**self.module.state_dict(), **state})
        # a source's statistics that these weights lack would stay those of earlier weights
        found = {name.removeprefix("backbone.") for name in state}
        spread_missing(self.module.backbone, found)

    def _batches(self, device: torch.device) -> Iterator[AnyBatch]:
        loader = self.data.train_dataloader()
        for item in loader:
            batch = item[0] if isinstance(loader, CombinedLoader) else item
            moved = self.data.transfer_batch_to_device(batch, device, 0)
            yield self.data.on_after_batch_transfer(moved, 0)

    def _forward(self, batch: AnyBatch) -> None:
        """Pass a batch through the backbone, and to each head with statistics what it trains on."""
        parts = by_source(batch)
        features = self.module.features({source: images for source, (images, _) in parts.items()})
        for name, task in self.normalising.items():
            if (source := source_of(task, parts)) in features:
                self.module.output(name, features[source])


def _has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(layer, BatchNorm) for layer in network.modules())


@contextmanager
def _without_trainer(data: LightningDataModule) -> Iterator[None]:
    """Detach data from the Trainer: with it, sources of two views make them in evaluation too."""
    parts = [data, *(data.sources.values() if isinstance(data, JointLoaders) else ())]
    trainers = [part.trainer for part in parts]
    try:
        for part in parts:
            part.trainer = None
        yield
    finally:
        for part, trainer in zip(parts, trainers, strict=True):
            part.trainer = trainer
