from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.processes import run_two_processes
from tl.tasks import BarlowTwins, NTXent, TwoViews, VICReg
from tl.tasks.two_views.gather import gathered, gathered_rows

LOSSES: dict[str, TwoViews] = {
    "nt_xent": NTXent(temperature=0.2),
    "barlow_twins": BarlowTwins(weight=0.1),
    "vicreg": VICReg(),
}


def views(rank: int | None = None) -> tuple[Tensor, Tensor]:
    """Two views of eight samples, or of the half of one rank."""
    both = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    part = both if rank is None else both[:, 4 * rank : 4 * rank + 4]
    return part[0], part[1]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))


def gradients(task: TwoViews, net: nn.Module, rank: int | None = None) -> dict[str, Tensor]:
    given = views(rank)
    loss = task.loss(net(torch.cat(given)), torch.ones(len(given[0]), dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    found = {n.removeprefix("module."): p.grad for n, p in net.named_parameters()}
    return {"loss": loss.detach(), **{n: g for n, g in found.items() if g is not None}}


SCRIPT = """
import os, sys
import torch
from torch.nn.parallel import DistributedDataParallel
from tests.tasks.two_views.test_gather import LOSSES, gradients, network
from tl.tasks.two_views.gather import gathered, gathered_rows
rank = int(os.environ["LOCAL_RANK"])
torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
found = {n: gradients(t, DistributedDataParallel(network()), rank) for n, t in LOSSES.items()}
own = torch.full((1 + rank, 2), float(rank))  # evaluations may differ in length
assert gathered(own) is own
for counts in ((3, 1), (2, 0), (0, 2), (0, 0)):
    own = torch.full((counts[rank], 2), float(rank), requires_grad=True)
    both = gathered_rows(own)
    assert both[:, 0].tolist() == [0.0] * counts[0] + [1.0] * counts[1]
    both.sum().backward()
    assert own.grad.tolist() == [[2.0, 2.0]] * counts[rank]  # DDP's mean halves it
torch.save(found, f"{sys.argv[1]}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_equal_one_on_the_joint_batch(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", str(tmp_path)], tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, task in LOSSES.items():
        expected = gradients(task, network())
        for found in ranks:
            assert found[name].keys() == expected.keys()
            for key, value in expected.items():
                assert torch.allclose(found[name][key], value, rtol=1e-4, atol=1e-6), (name, key)


@pytest.mark.parametrize("grad", [True, False])
def test_one_process_keeps_its_outputs(*, grad: bool) -> None:
    outputs = torch.randn(3, 2, requires_grad=grad)
    assert gathered(outputs) is outputs
    assert gathered_rows(outputs) is outputs
