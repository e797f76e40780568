"""Adaptation on two processes equals one process on the joint batch."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchjd.aggregation import UPGrad

from tests.processes import run_two_processes
from tests.small import trainer
from tl import Classification, MultiTaskModule
from tl.transfer.adaptation import CORAL, DANN, MCC, MKMMD

CASES: dict[str, Any] = {
    "coral": lambda: (CORAL(weight=5.0), None),
    "mk_mmd": lambda: (MKMMD(), None),
    "dann": lambda: (DANN(hidden=6), None),
    "mcc": lambda: (MCC(), None),
    "aggregated": lambda: ([CORAL(weight=5.0), MCC(task="b")], UPGrad()),
}
UNLABELLED = (6, 5, 1, 4)  # of each batch: the second process has fewer, and none of the third


def samples(part: slice) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for count in UNLABELLED:
        a, b, odd = (torch.randn(n, 5, generator=generator) for n in (8, 8, count))
        mine = (odd + 1)[part]
        batch: dict[str, Any] = {
            "a": (a[part], (torch.arange(8) % 3)[part]),
            "b": (b[part], (torch.arange(8) % 2)[part]),
            "odd": (mine, {}) if len(mine) else None,
        }
        found.append(batch)
    return found


class Curve(nn.Module):
    """Five numbers to four features."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features ``(N, 4)``."""
        features: Tensor = self.layer(inputs).tanh()
        return features


def run(case: str, part: slice, **settings: Any) -> dict[str, Tensor]:
    """Train; returns the weights by name."""
    torch.manual_seed(0)
    penalties, balancer = CASES[case]()
    tasks = [Classification("a", 3, source="a")]
    if balancer is not None:
        tasks.append(Classification("b", 2, source="b"))
    tasks.append(Classification("odd", 3, source="odd", shares="a", trains=False))
    module = MultiTaskModule(
        Curve(),
        tasks,
        penalties=penalties,
        balancer=balancer,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    )
    fitted = trainer(Path(), **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = samples(part)
        fitted.fit(module, DataLoader(found, batch_size=None))
    assert all(value.isfinite() for value in module.penalty_values().values())
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def main(folder: Path) -> None:
    """One of two processes: every second sample."""
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    ddp: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
    found = {case: run(case, slice(rank, None, 2), **ddp) for case in CASES}
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of both processes, ``rank0.pt`` and ``rank1.pt``."""
    folder = tmp_path_factory.mktemp("ddp")
    code = (
        "import sys; from pathlib import Path; "
        "from tests.transfer.adaptation import test_base_ddp as t; t.main(Path(sys.argv[1]))"
    )
    run_two_processes(["-c", code, str(folder)], folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one_on_the_joint_batch(case: str, folder: Path) -> None:
    ranks = [torch.load(folder / f"rank{r}.pt", weights_only=True)[case] for r in (0, 1)]
    joint = run(case, slice(None))
    for name, value in joint.items():
        torch.testing.assert_close(ranks[0][name], value, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(ranks[0][name], ranks[1][name]), name
