"""Two processes train as one does with twice the batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.processes import run_two_processes
from tests.small import trainer
from tests.text import CONFIG, read
from tl import TransferModule
from tl.backbones import TextBackbone

SCRIPT = """
import os, sys, warnings
import torch
from pathlib import Path
from tests.data.text.test_text_loaders import run
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
found = run(Path(sys.argv[1]), 8, strategy="ddp", devices=2)
torch.save(found, f"{sys.argv[1]}/rank{os.environ['LOCAL_RANK']}.pt")
torch.distributed.destroy_process_group()
"""


def run(folder: Path, batch_size: int, **settings: object) -> dict[str, torch.Tensor]:
    """Weights after two epochs, and what the test split gives."""
    data = read(batch_size=batch_size, length_window=3, val_size=0.0)
    torch.manual_seed(0)
    net = TextBackbone(
        config={**CONFIG, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    )
    module = TransferModule(net, data.task, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    made = trainer(folder, **settings)
    made.fit(module, data)
    [tested] = made.test(module, data, verbose=False)
    found = {name: p.detach().clone() for name, p in module.named_parameters()}
    return {**found, **{name: torch.tensor(value) for name, value in tested.items()}}


def test_two_processes_train_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "cache"))
    one = run(tmp_path, 16)
    (tmp_path / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py", str(tmp_path)], tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, value in one.items():
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4, msg=name)


def test_overfitting_repeats_the_same_texts(tmp_path: Path) -> None:
    data = read()
    module = TransferModule(TextBackbone(config=CONFIG), data.task)
    made = trainer(tmp_path, overfit_batches=2)
    made.fit(module, data)
    assert made.global_step == 4


def test_a_limited_evaluation_reads_all_classes(tmp_path: Path) -> None:
    data = read(eval_batch_size=12)
    data.setup("test")
    data.trainer = trainer(tmp_path, limit_test_batches=1)
    _, targets = next(iter(data.test_dataloader()))
    assert len(targets.unique()) == 6
