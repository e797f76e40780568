from __future__ import annotations

from tests.small import Staged, module, tiny_data
from tl.serving.training import training_said
from tl.transfer import GradualUnfreezing, LinearProbe


def test_what_was_frozen_is_a_row_per_stage() -> None:
    data = tiny_data()
    configuration = {
        "seed_everything": 3,
        "trainer": {"max_epochs": 9},
        "model": {
            "init_args": {
                "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
                "penalties": [{"class_path": "tl.transfer.penalties.L2SP"}],
            }
        },
    }
    probe = training_said(module(data, Staged, strategy=LinearProbe()), {"epoch": 4}, configuration)
    assert "| stem | frozen |" in probe
    assert "| head | from epoch 0 (counted from 0) |" in probe
    assert "- optimizer: `torch.optim.SGD` (lr=0.1)" in probe
    assert "- penalties: `tl.transfer.penalties.L2SP`" in probe
    assert "- seed: 3" in probe
    network = module(data, Staged, strategy=GradualUnfreezing())
    early = training_said(network, {"epoch": 1}, configuration)
    assert "| layer2 | from epoch 1 (counted from 0) |" in early
    assert "| layer1 | frozen |" in early, "it trains later, not yet in this checkpoint"


def test_without_a_strategy_nothing_was_frozen() -> None:
    network = module(tiny_data())
    assert training_said(network, {}, {"model": {}}).startswith("Nothing was frozen")
    assert "is not recorded" in training_said(network, {}, {})
