"""Balanced sampling: how often classes come, in one process and in several, also after a resume."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from tests.small import multitask_module, trainer, two_sources
from tl import Classification, GeneratedDataModule, MultiTaskDataModule, Regression, TransferModule
from tl.data import TensorDataModule
from tl.data.errors import DataError
from tl.data.loaders import EpochSampler
from tl.data.sampling import balanced_order

RARE = torch.tensor([0] * 80 + [1] * 15 + [2] * 5)
KIND = Classification("kind", 3)


def order(labels: Tensor, wanted: int, seed: int = 0) -> Tensor:
    return balanced_order(labels, wanted, torch.Generator().manual_seed(seed))


def counts(labels: Tensor, positions: Tensor) -> list[int]:
    return torch.bincount(labels[positions] + 1, minlength=4).tolist()


def test_every_class_comes_equally_often() -> None:
    found = order(RARE, 100)
    assert sorted(counts(RARE, found)) == [0, 33, 33, 34]
    assert counts(RARE, order(RARE, 99)) == [0, 33, 33, 33]
    # members of a class come equally often too, give or take one
    each = torch.bincount(found, minlength=100)
    assert set(each[80:95].tolist()) == {2, 3}
    assert set(each[95:].tolist()) <= {6, 7}
    assert set(each[:80].tolist()) == {0, 1}
    # classes are mixed, not one after the other
    assert all(len(set(RARE[part].tolist())) == 3 for part in torch.split(found, 25))


def test_samples_without_a_label_keep_their_share() -> None:
    labels = torch.cat([RARE, torch.full((100,), -1)])
    assert counts(labels, order(labels, 120)) == [60, 20, 20, 20]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def sampler(rank: int = 0, world: int = 1, epoch: int = 0, seed: int = 0) -> list[list[int]]:
        made: EpochSampler = EpochSampler(
            [0] * 100,  # type: ignore[arg-type]
            batch_size=12 // world,
            steps_per_epoch=8,
            seed=seed,
            num_replicas=world,
            rank=rank,
            balanced=RARE,
        )
        made.set_epoch(epoch)
        assert len(made) == 8
        return [batch.tolist() for batch in made]

    one = sampler()
    assert one == sampler()
    assert len({str(sampler(epoch=epoch, seed=seed)) for epoch in (0, 1) for seed in (0, 1)}) == 4
    two = [sampler(rank, 2) for rank in (0, 1)]
    for step, batch in enumerate(one):  # two processes share the batch of one
        assert sorted(two[0][step] + two[1][step]) == sorted(batch)


class Mean(nn.Module):
    """Mean of each of two channels to four features."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, 4)``."""
        features: Tensor = self.linear(inputs.mean(2))
        return features


def tensors(**options: Any) -> TensorDataModule:
    inputs = torch.randn(100, 2, 4, generator=torch.Generator().manual_seed(0))
    given = {"tasks": [KIND], "batch_size": 10, "val_size": 0, "sampling": "balanced", **options}
    return TensorDataModule(inputs, given.pop("targets", RARE), **given)


def drawn(loader: Any) -> Tensor:
    return torch.cat([targets for _, targets in loader])


def test_tensors_are_balanced_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    shuffled, balanced = tensors(sampling="shuffled"), tensors()
    with caplog.at_level(logging.INFO):
        for data in (shuffled, balanced):
            data.setup("fit")
        ordinary, found = (drawn(data.train_dataloader()) for data in (shuffled, balanced))
    assert torch.equal(ordinary.sort().values, RARE)
    assert sorted(torch.bincount(found).tolist()) == [33, 33, 34]
    assert (
        "The data: balanced sampling by kind: each of its 3 classes makes up 0.333 of an epoch; "
        "their shares of the training samples are 0.05 to 0.8." in caplog.text
    )


def test_a_balanced_run_resumes_in_mid_epoch_bit_for_bit(tmp_path: Path) -> None:
    def fit(ckpt: Path | None = None) -> Any:
        torch.manual_seed(0)
        keep = ModelCheckpoint(
            tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1, enable_version_counter=False
        )
        run = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep])
        run.fit(TransferModule(Mean(), KIND), tensors(), ckpt_path=ckpt)
        return run.lightning_module.state_dict()

    wanted = fit()
    for step in (4, 13):
        found = fit(tmp_path / f"step={step}.ckpt")
        assert all(torch.equal(found[k], v) for k, v in wanted.items() if torch.is_tensor(v))


def test_images_of_every_source_are_balanced(tmp_path: Path) -> None:
    data = two_sources(sampling="balanced", epoch_length=4)
    sources: Any = data.sources
    assert sources["ten"].settings.sampling == "balanced"
    sources["hundred"].balanced_by = "coarse"
    run = trainer(tmp_path, max_epochs=1)
    run.fit(multitask_module(data), data)
    hundred = data.sources["hundred"]
    loader = hundred.train_dataloader(4)
    assert len(loader) == 4
    picked = torch.cat([*loader.sampler]).cpu()
    coarse = torch.bincount(hundred.splits["train"].targets["coarse"][picked], minlength=20)
    assert coarse.tolist() == [6] * 20
    fine = torch.bincount(hundred.splits["train"].targets["fine"][picked], minlength=100)
    assert fine.max() > fine.min()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"tasks": [Regression("level")], "targets": torch.rand(100)},
            "needs a task with one class per sample, and 'level' is not one (1 number)",
        ),
        (
            {"tasks": [Classification("kind", 3, multi_label=True)], "targets": torch.ones(100, 3)},
            "'kind' is not one (3 labels)",
        ),
        (
            {"tasks": [Classification("kind", 5)]},
            "task 'kind' has none of 2 of its 5 classes: 3, 4. Add some, or",
        ),
        ({"balanced_by": "sort"}, "has no single task 'sort': set `balanced_by` to the one"),
        (
            {"tasks": [KIND, Classification("other", 3)]},
            "has several tasks: set `balanced_by` to the one whose classes",
        ),
    ],
)
def test_what_cannot_be_balanced_is_one_line(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    data = tensors(**options)
    run = trainer(tmp_path)
    with pytest.raises(DataError) as found:
        run.fit(TransferModule(Mean(), data.tasks[0]), data)
    assert said in str(found.value)
    assert "\n" not in str(found.value)
    assert run.global_step == 0


def test_other_ways_of_sampling_are_refused() -> None:
    with pytest.raises(ValueError, match="`sampling` must be one of shuffled, balanced, got 'x'"):
        tensors(sampling="x")
    with pytest.raises(ValueError, match="`sampling` must be 'shuffled' or 'balanced', got 'x'"):
        GeneratedDataModule(sampling="x")  # type: ignore[arg-type]
    source = GeneratedDataModule(classes=100, train_size=200, test_size=100, targets="both")
    data = MultiTaskDataModule(sources={"a": source}, sampling="balanced")
    data.setup("fit")
    with pytest.raises(DataError, match=r"a has several tasks: set .*a_fine, a_coarse"):
        data.train_dataloader()


def test_images_that_are_not_balanced_refuse_what_to_balance_by() -> None:
    data = GeneratedDataModule(train_size=40, balanced_by="generated")
    with pytest.raises(DataError, match="`balanced_by` is 'generated', and `sampling` is 'shuffl"):
        data.setup("fit")
    data.sampling = "balanced"
    data.setup("fit")
