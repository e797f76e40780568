"""Penalties on two processes: these equal each other to the bit, and one on the joint batch."""

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
from tests.transfer.penalties.steps import Small, checkpoint
from tl import Classification, MultiTaskModule
from tl.transfer.penalties import BSS, DELTA, L2SP, CoTuning, LwF

CASES: dict[str, Any] = {
    "both": lambda: ([L2SP(alpha=0.5, beta=0.1), LwF()], None),
    # the second process has no label of the task in its half of a batch
    "co_tuning": lambda: ([Kept(task="a")], None),
    "delta": lambda: (Even(task="a"), None),
    # the joint batch has other singular values than either half
    "bss": lambda: (BSS(k=2, eta=0.5), None),
    "aggregated": lambda: ([L2SP(alpha=0.5, beta=0.1), LwF()], UPGrad()),
}


class Kept(CoTuning):
    """Co-Tuning whose relation of classes needs no data."""

    def start(self, start: Any) -> None:
        del start
        self.relations = torch.full((4, 5), 0.2)


class Even(DELTA):
    """DELTA with the same attention on each channel, which needs no data."""

    def start(self, start: Any) -> None:
        assert self.network is not None
        self.network.backbone.load_state_dict(start.backbone.state_dict())
        self.attention.get_buffer("conv").fill_(0.25)


def batches(part: slice, *, missing: bool) -> list[dict[str, tuple[Tensor, Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(8) % 4
    if missing:  # on the second process
        labels[1::2] = -1
    found = []
    for _ in range(3):
        pixels = torch.randn(8, 3, 32, 32, generator=generator)
        a, b = (pixels, labels), (-pixels, torch.arange(8) % 3)
        found.append({"a": (a[0][part], a[1][part]), "b": (b[0][part], b[1][part])})
    return found


def run(case: str, folder: Path, part: slice, ckpt: Path | None = None, **settings: Any) -> Any:
    """Train; returns the weights by name."""
    torch.manual_seed(0)
    penalties, balancer = CASES[case]()
    module = MultiTaskModule(
        Small(),
        (Classification("a", 4, source="a"), Classification("b", 3, source="b")),
        init_from=str(folder / "source.ckpt"),
        penalties=penalties,
        balancer=balancer,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    )
    fitted = trainer(folder, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = batches(part, missing=case == "co_tuning")
        fitted.fit(module, DataLoader(found, batch_size=None), ckpt_path=ckpt, weights_only=True)
    if fitted.max_epochs == 2:
        fitted.save_checkpoint(folder / f"{case}-{fitted.world_size}.ckpt")
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def main(folder: Path) -> None:
    """One of two processes: every second image."""
    torch.set_num_threads(1)
    rank = int(os.environ["LOCAL_RANK"])
    mine = slice(rank, None, 2)
    ddp: dict[str, Any] = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
    found = {case: run(case, folder, mine, **ddp) for case in CASES}
    for how, ckpt in (("straight", None), ("resumed", folder / "both-2.ckpt")):
        found[how] = run("both", folder, mine, ckpt, **ddp, max_epochs=4)
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of both processes, ``rank0.pt`` and ``rank1.pt``, and their source."""
    folder = tmp_path_factory.mktemp("ddp")
    torch.manual_seed(3)
    checkpoint(folder / "source.ckpt", Small(), nn.ModuleDict({"old": nn.Linear(4, 5)}))
    code = (
        "import sys; from pathlib import Path; from tests.modules import test_penalties_ddp as t; "
        "t.main(Path(sys.argv[1]))"
    )
    run_two_processes(["-c", code, str(folder)], folder)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_both_processes_hold_the_same_weights(case: str, folder: Path) -> None:
    first, second = (torch.load(folder / f"rank{r}.pt", weights_only=True)[case] for r in (0, 1))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("case", ["both", "delta", "bss", "aggregated"])
def test_two_processes_equal_one_on_the_joint_batch(case: str, folder: Path) -> None:
    joint = run(case, folder, slice(None))
    found = torch.load(folder / "rank0.pt", weights_only=True)[case]
    for name, value in joint.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_two_and_two_epochs_equal_four_on_two_processes(folder: Path) -> None:
    found = torch.load(folder / "rank0.pt", weights_only=True)
    for name, value in found["straight"].items():
        assert torch.equal(value, found["resumed"][name]), name
    assert any(not torch.equal(v, found["both"][name]) for name, v in found["straight"].items())
