"""Episodes on two processes: each has its own, and both train as one on the mean of both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from tests.data.cifar.test_few_shot import data
from tests.processes import run_two_processes
from tests.small import trainer
from tests.transfer.penalties.steps import Small
from tl import TransferModule
from tl.data.images.augment import Augment

PLAIN = Augment(padding=0, flip=False)


def module() -> TransferModule:
    torch.manual_seed(0)
    return TransferModule(
        Small(), data().task, optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1)
    )


def weights(net: TransferModule) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


class Kept(Callback):
    """Keeps the batches that are trained on."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch)


def main(folder: Path) -> None:
    """One of two processes: keep its episodes, its weights and what validation gives."""
    torch.set_num_threads(1)
    given, net = data(augment=PLAIN), module()
    kept = Kept()
    run = trainer(folder, max_epochs=1, strategy="ddp", devices=2, callbacks=[kept])
    run.fit(net, given)
    found: dict[str, Any] = {"weights": weights(net), "acc": run.callback_metrics["val/acc"]}
    found["batches"] = kept.batches
    torch.save(found, folder / f"rank{os.environ['LOCAL_RANK']}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ddp")
    code = (
        "import sys; from pathlib import Path; "
        "from tests.data.cifar import test_few_shot_ddp as t; t.main(Path(sys.argv[1]))"
    )
    run_two_processes(["-c", code, str(folder)], folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_each_process_has_episodes_of_its_own_and_both_the_same_weights(
    ranks: list[dict[str, Any]],
) -> None:
    first, second = ranks
    for (one, _), (other, _) in zip(first["batches"], second["batches"], strict=True):
        assert not torch.equal(one, other)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    assert first["acc"] == second["acc"]


def test_two_processes_equal_one_on_both_episodes(
    ranks: list[dict[str, Any]], tmp_path: Path
) -> None:
    pairs = zip(*(rank["batches"] for rank in ranks), strict=True)
    stream: Any = [episode for pair in pairs for episode in pair]
    net = module()
    run = trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    run.fit(net, DataLoader(stream, batch_size=None))
    for name, value in weights(net).items():
        torch.testing.assert_close(ranks[0]["weights"][name], value, rtol=1e-4, atol=1e-6, msg=name)
