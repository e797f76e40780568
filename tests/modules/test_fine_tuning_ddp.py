"""Strategies on two processes: frozen means frozen there too, and both hold the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.modules.staged_runs import STAGES
from tests.processes import run_two_processes
from tests.small import every_strategy, name_of
from tl.transfer import Strategy

FREEZE = [s for s in every_strategy() if s.first_epochs(STAGES) != dict.fromkeys(STAGES, 0)]
CASES = [
    *((strategy, "transfer") for strategy in every_strategy()),
    *((strategy, "upgrad") for strategy in FREEZE),
    *((strategy, "gradnorm") for strategy in FREEZE if strategy.changes(STAGES)),
]
SCRIPT = """
import os, sys, warnings
from pathlib import Path
import torch
from torchjd.aggregation import UPGrad
from tests.modules.staged_runs import OPTIMIZERS, Watch, built, fit
from tests.modules.test_fine_tuning_ddp import CASES
from tests.small import Staged, multitask_module, name_of, two_sources
from tl.balancing import GradNorm
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
balancers = {"upgrad": UPGrad, "gradnorm": GradNorm}
found = {}
for strategy, kind in CASES:
    if kind == "transfer":
        ours = built(strategy)
    else:
        ours = multitask_module(
            two_sources(), Staged, strategy=strategy, balancer=balancers[kind],
            optimizer=OPTIMIZERS["adamw"],
        )
    watch = Watch()
    run = fit(
        Path(sys.argv[1]), ours, callbacks=[watch], strategy="ddp", devices=2,
        limit_train_batches=2, limit_val_batches=1, gradient_clip_val=0.1,
    )
    found[f"{name_of(strategy)} {kind}"] = {
        "weights": {k: p.detach().clone() for k, p in ours.named_parameters()},
        "thawed": sorted(watch.thawed),
        "frozen_epochs": watch.frozen_epochs,
        "violations": watch.violations,
        "steps": run.global_step,
    }
torch.save(found, f"{sys.argv[1]}/rank{os.environ['LOCAL_RANK']}.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    """What a pair of processes found of every strategy."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", str(folder)], folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize(
    ("strategy", "kind"), CASES, ids=[f"{name_of(strategy)}-{kind}" for strategy, kind in CASES]
)
def test_frozen_stays_and_both_processes_agree(strategy: Strategy, kind: str, ranks: Any) -> None:
    first, second = (rank[f"{name_of(strategy)} {kind}"] for rank in ranks)
    for found in (first, second):
        assert found["violations"] == []
        firsts = strategy.first_epochs(STAGES)
        assert found["thawed"] == sorted(s for s, epoch in firsts.items() if epoch is not None)
        assert found["frozen_epochs"] == sum(5 if e is None else e for e in firsts.values())
        assert found["steps"] == 10
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
