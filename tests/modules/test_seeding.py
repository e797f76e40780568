"""A run that stops and goes on draws what one draws that was never stopped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tl.data.images.resident import mixed_seed
from tl.modules.seeding import run_seed, seed_step


class Draws(Tiny):
    """Dropout, and a branch that is now and then left out by Python's and numpy's numbers."""

    def forward(self, images: Tensor) -> Tensor:
        features = super().forward(images)
        if not self.training:
            return features
        if random.random() < 0.5:  # noqa: S311
            features = features * 1.5
        if np.random.rand() < 0.5:  # noqa: NPY002
            features = features + 0.1
        return torch.nn.functional.dropout(features, 0.5)


def fit(folder: Path, ours: LightningModule, data: Any, **settings: Any) -> Trainer:
    ckpt = settings.pop("ckpt_path", None)
    run = trainer(folder, **settings)
    run.fit(ours, data, ckpt_path=ckpt, weights_only=True)
    return run


def assert_resumes(folder: Path, make: Any, data: Any, resumed: Any, **settings: Any) -> None:
    """Train at once, and from a checkpoint of each epoch's second optimiser step."""
    saved = ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
    whole = make()
    run = fit(folder, whole, data(), callbacks=[saved], enable_checkpointing=True, **settings)
    per_epoch = run.global_step // 2
    assert per_epoch >= 3
    for step in (2, per_epoch + 2):
        random.seed(step)
        np.random.seed(step)  # noqa: NPY002
        torch.manual_seed(step)  # must not matter
        again = make()
        torch.manual_seed(step)
        fit(folder, again, resumed(), ckpt_path=folder / f"step={step}.ckpt", **settings)
        for name, value in whole.state_dict().items():
            if isinstance(value, Tensor):
                assert torch.equal(value, again.state_dict()[name]), (step, name)


@pytest.mark.parametrize(
    ("workers", "settings"),
    [
        (0, {}),
        (2, {}),
        (0, {"val_check_interval": 2}),
        (0, {"accumulate_grad_batches": 2, "val_check_interval": 4}),
    ],
)
def test_one_source(workers: int, settings: dict[str, Any], tmp_path: Path) -> None:
    given = {"train_size": 160, "batch_size": 20}
    assert_resumes(
        tmp_path,
        lambda: module(tiny_data(**given), Draws),
        lambda: tiny_data(**given),
        lambda: tiny_data(**given, num_workers=workers),
        **settings,
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("length", "batch_norm", "workers", "settings"),
    [
        ("longest", "joint", 0, {"val_check_interval": 3}),
        ("longest", "per_source_statistics", 2, {"accumulate_grad_batches": 2}),
        ("shortest", "per_source", 0, {"accumulate_grad_batches": 1}),
        ("shortest", "joint", 2, {}),
        (7, "per_source", 2, {"val_check_interval": 2}),
        (8, "per_source_statistics", 0, {"val_check_interval": 4, "accumulate_grad_batches": 2}),
        (7, "joint", 0, {"accumulate_grad_batches": 2}),  # its last step has one batch
    ],
)
def test_several_sources(
    length: Any, batch_norm: Any, workers: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    def data(num_workers: int = 0) -> Any:
        return two_sources(epoch_length=length, batch_size=20, num_workers=num_workers)

    assert_resumes(
        tmp_path,
        lambda: multitask_module(data(), Draws, batch_norm=batch_norm),
        data,
        lambda: data(workers),
        **settings,
    )


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: S311, NPY002


def test_draws_follow_from_seed_epoch_step_and_rank() -> None:
    def after(seed: int, epoch: int, step: int, rank: int) -> tuple[float, float, float]:
        seed_step(seed, epoch, step, rank, torch.device("cpu"))
        return drawn()

    places = [(1, 0, 0, 0), (1, 0, 1, 0), (1, 1, 0, 0), (1, 0, 0, 1), (2, 0, 0, 0)]
    found = [after(*place) for place in places]
    for column in zip(*found, strict=True):
        assert len(set(column)) == len(found)
    assert after(1, 0, 1, 0) == found[1]
    assert mixed_seed("step", 1, 0, 1, 0) != mixed_seed("augment", 1, 0, 1, 0)


def test_the_seed_is_that_of_seed_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for seed in ("1", "1", "2"):
        monkeypatch.setenv("PL_GLOBAL_SEED", seed)
        ours = module(tiny_data(), Draws)
        fit(tmp_path, ours, tiny_data(), max_epochs=1)
        ends.append(list(ours.parameters())[-1].detach())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_without_seed_everything_runs_follow_torchs_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the seeds of a study by ``torch.manual_seed`` would differ in the first weights only."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)

    def weights(seed: int, **more: Any) -> Tensor:
        data = tiny_data()
        torch.manual_seed(7)
        ours = module(data, Draws)
        torch.manual_seed(seed)
        trainer(tmp_path, max_epochs=1, **more).fit(ours, data)
        assert ours.run_seed == seed
        return torch.cat([parameter.detach().flatten() for parameter in ours.parameters()])

    first = weights(1)
    assert torch.equal(weights(1), first)
    assert not torch.equal(weights(2), first)


def test_a_resumed_run_has_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.manual_seed(5)
    assert_resumes(tmp_path, lambda: module(tiny_data(), Draws), tiny_data, tiny_data, max_epochs=2)


def test_seed_everything_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    assert run_seed(trainer(tmp_path), 4) == 3
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert run_seed(trainer(tmp_path), 4) == 4
