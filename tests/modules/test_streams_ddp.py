"""Backbones with a stream per task on two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchjd.aggregation import PCGrad, UPGrad

from tests.processes import run_two_processes
from tests.small import trainer
from tl import Classification, MultiTaskModule
from tl.backbones import MTAN, CrossStitch
from tl.backbones.resnet_cifar import ResNetCifar
from tl.balancing import GradNorm

TASKS = (Classification("a", 3, source="a"), Classification("b", 4, source="b"))
CASES: dict[str, tuple[Any, Any]] = {
    f"{kind.__name__} {balancer.__name__ if balancer else 'sum'}": (kind, balancer)
    for kind in (MTAN, CrossStitch)
    for balancer in (None, PCGrad, UPGrad, GradNorm)
}
Batch = dict[str, tuple[Tensor, Tensor]]


def batches(seed: int = 0) -> list[Batch]:
    random = torch.Generator().manual_seed(seed)
    return [
        {
            task.name: (
                torch.randn(4, 3, 8, 8, generator=random),
                torch.randint(0, task.num_classes, (4,), generator=random),
            )
            for task in TASKS
        }
        for _ in range(2)
    ]


def twice(batch: Batch) -> Batch:
    """The same samples once more: neither means nor statistics of a batch change."""
    return {
        name: (torch.cat([images, images]), torch.cat([target, target]))
        for name, (images, target) in batch.items()
    }


def trained(case: str, given: list[Batch], folder: Path, **settings: Any) -> dict[str, Tensor]:
    kind, balancer = CASES[case]
    torch.manual_seed(0)
    sgd = torch.optim.SGD
    module = MultiTaskModule(
        kind(ResNetCifar(14)),
        TASKS,
        balancer=balancer and balancer(),
        optimizer=lambda groups: sgd(groups, lr=0.01),
    )
    loader: Any = DataLoader(given, batch_size=None)  # type: ignore[arg-type]
    run = trainer(folder, use_distributed_sampler=False, **settings)
    run.fit(module, loader)
    return {name: p.detach().clone() for name, p in module.named_parameters()}


SCRIPT = """
import os, sys, warnings
from pathlib import Path
import torch
from tests.modules.test_streams_ddp import CASES, batches, trained
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
rank, folder = int(os.environ["LOCAL_RANK"]), Path(sys.argv[1])
two = {"strategy": "ddp", "devices": 2, "max_epochs": 1}
found = {case: trained(case, batches(), folder, **two) for case in CASES}
gaps = batches(rank)
gaps[rank].pop("a")
found |= {f"{case} gaps": trained(case, gaps, folder, **two) for case in CASES}
torch.save(found, folder / f"rank{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", "."], folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(case: str, ranks: Any, tmp_path: Path) -> None:
    alone = trained(case, [twice(batch) for batch in batches()], tmp_path, max_epochs=1)
    for name, value in alone.items():
        assert torch.equal(ranks[0][case][name], ranks[1][case][name]), name
        torch.testing.assert_close(ranks[0][case][name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("case", CASES)
def test_a_source_may_be_absent_in_one_process(case: str, ranks: Any) -> None:
    for name, value in ranks[0][f"{case} gaps"].items():
        assert torch.equal(ranks[1][f"{case} gaps"][name], value), name
        assert bool(value.isfinite().all()), name
