"""Two processes equal one on the joint batch, and each other to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import run_two_processes

OVERLAYS = sorted(
    p.stem for p in (Path(__file__).parents[2] / "configs" / "balancing").glob("*.yaml")
)
EPOCHS, BATCHES = 5, 2
ABSENT = ["uncertainty", "dwa", "gradnorm", "famo", "pcgrad", "upgrad", "mgda"]

SCRIPT = """
import importlib.util, os, sys, warnings
import torch
warnings.filterwarnings("ignore")
spec = importlib.util.spec_from_file_location("lab", sys.argv[1])
lab_module = importlib.util.module_from_spec(spec)
sys.modules["lab"] = lab_module
spec.loader.exec_module(lab_module)
lab, rank = lab_module.Lab(), int(os.environ["LOCAL_RANK"])
torch.set_num_threads(1)

def half(batch):
    return {
        source: (images[rank::2], target[rank::2]) for source, (images, target) in batch.items()
    }

found = {}
for accumulate in (1, 2):
    for name in lab.names:
        module, size = lab.module(lab.method(name)), lab.micro_batches(name)
        lab.fit(
            module, [half(batch) for batch in lab.stream(BATCHES * size)], max_epochs=EPOCHS,
            strategy="ddp", devices=2, use_distributed_sampler=False,
            accumulate_grad_batches=accumulate * size,
        )
        found[f"{name} {accumulate}"] = {
            k: p.detach().clone() for k, p in module.named_parameters()
        }

# each process lacks a source in turn, and one batch has it nowhere
gaps = [half(batch) for batch in lab.stream(4)]
if rank == 1:
    gaps[0].pop("cifar100")
    gaps[1].pop("cifar10")
if rank == 0:
    gaps[2].pop("cifar100")
gaps[3].pop("cifar10")
for name in [None, *ABSENT]:
    module = lab.module(None if name is None else lab.method(name))
    lab.fit(
        module, gaps, max_epochs=2, strategy="ddp", devices=2, use_distributed_sampler=False,
        log_every_n_steps=2,
    )
    found[f"{name} absent"] = {k: p.detach().clone() for k, p in module.named_parameters()}
torch.save(found, f"{sys.argv[2]}/rank{rank}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Weights by method and process, after ten steps of every method in one pair of processes."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(f"{BATCHES=}; {EPOCHS=}; {ABSENT=}\n{SCRIPT}")
    run_two_processes(["run.py", str(Path(__file__).parent / "conftest.py"), "."], folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", OVERLAYS)
def test_both_processes_hold_the_same_weights(name: str, accumulate: int, ranks: Any) -> None:
    first, second = (rank[f"{name} {accumulate}"] for rank in ranks)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("name", ["None", *ABSENT])
def test_a_task_may_be_absent_in_one_process(name: str, ranks: Any) -> None:
    """Training goes on, and both processes hold the same finite weights."""
    first, second = (rank[f"{name} absent"] for rank in ranks)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
        assert bool(value.isfinite().all()), key


# losses enter beyond their weights here: a micro-batch is weighted by its own
BY_LOSSES = {"famo", "geometric_mean", "stch", "pbi", "cosmos", "db_mtl"}
APART = {"modo", "sdmgrad"}  # these read micro-batches apart


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", OVERLAYS)
def test_two_processes_equal_one_on_the_joint_batch(
    name: str, accumulate: int, ranks: Any, lab: Any
) -> None:
    module, size = lab.module(lab.method(name)), lab.micro_batches(name)
    start = {key: p.detach().clone() for key, p in module.named_parameters()}
    lab.fit(
        module,
        lab.stream(BATCHES * size),
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate * size,
    )
    # solvers stop at tolerances of their own, and signs of near-zeros fall as rounding has it
    limit = 1e-4 if name in {"cagrad", "nash_mtl", "fair_grad", "grad_drop"} else 1e-6
    for key, p in module.named_parameters():
        other = ranks[0][f"{name} {accumulate}"][key]
        torch.testing.assert_close(p.detach(), other, rtol=1e-6, atol=limit, msg=f"{name} {key}")
    assert any(not torch.equal(p, start[key]) for key, p in module.named_parameters())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(OVERLAYS) - BY_LOSSES - APART - {"gradnorm"}))
def test_two_micro_batches_equal_one_batch_of_both(name: str, lab: Any) -> None:
    """Rows are accumulated before they are aggregated, so the cut does not matter."""
    [whole] = lab.stream(1)
    cut = [
        {s: (images[rank::2], target[rank::2]) for s, (images, target) in whole.items()}
        for rank in (0, 1)
    ]
    one, two = lab.module(lab.method(name)), lab.module(lab.method(name))
    lab.fit(one, [whole])
    lab.fit(two, cut, accumulate_grad_batches=2)
    for (key, p), other in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(p, other, rtol=1e-5, atol=1e-5, msg=f"{name} {key}")
