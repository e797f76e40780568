from __future__ import annotations

import math
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from tests.small import module, tiny_data, trainer
from tl.transfer import LPFT, ProbeThenCosine

STAGES = ["stem", "layer1", "head"]


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def test_each_part_has_a_rate_of_its_own() -> None:
    made = ProbeThenCosine(
        optimizer(), total_steps=8, probe_steps=3, probe_lr=0.5, fine_tune_lr=0.1, warmup=0.2
    )
    found = [2.0 * made.lr_lambdas[0](step) for step in range(9)]
    fall = [0.2 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(5)]
    assert found == pytest.approx([1.0] * 3 + [0.2, *fall])


def test_the_probe_takes_half_of_the_run_by_default() -> None:
    strategy = LPFT()
    for epochs, probe in ((2, 1), (5, 3), (30, 15)):
        strategy.begin(epochs)
        assert strategy.changes(STAGES) == [probe]
    with pytest.raises(ValueError, match="but its number of epochs is unknown"):
        strategy.begin(None)


@pytest.mark.parametrize(("probe", "epochs"), [(5, 5), (5, 2), (None, 1)])
def test_a_run_that_ends_with_the_probe_is_refused(probe: int | None, epochs: int) -> None:
    with pytest.raises(ValueError, match=rf"and the run has {epochs}: nothing would be fine-tuned"):
        LPFT(probe).begin(epochs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("probe_lr", 0.0), ("fine_tune_lr", -1.0), ("warmup", 1.0), ("probe_steps", None)],
)
def test_out_of_range(name: str, value: float | None) -> None:
    arguments: dict[str, Any] = {"total_steps": 10, "probe_steps": 5, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        ProbeThenCosine(optimizer(), **arguments)


def test_the_second_schedule_begins_with_the_second_part(tmp_path: Path) -> None:
    seen: list[tuple[int, float, bool]] = []

    class Look(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            conv = pl_module.backbone.conv.weight
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            seen.append((trainer.current_epoch, rate, pl_module.trains(conv)))

    data = tiny_data()
    schedule = partial(ProbeThenCosine, probe_lr=0.5, fine_tune_lr=0.1, warmup=0.0)
    built = module(
        data,
        strategy=LPFT(),
        scheduler=schedule,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0),
    )
    trainer(tmp_path, max_epochs=4, accumulate_grad_batches=2, callbacks=[Look()]).fit(built, data)
    assert {rate for epoch, rate, _ in seen if epoch < 2} == {0.5}
    second = [rate for epoch, rate, _ in seen if epoch >= 2]
    assert second[0] == pytest.approx(0.1)
    assert second == sorted(second, reverse=True)
    assert [trains for *_, trains in seen] == [epoch >= 2 for epoch, *_ in seen]


@pytest.mark.parametrize("strategy", [LPFT(), LPFT(probe_epochs=1)])
@pytest.mark.parametrize("epochs", [-1, 4])
def test_steps_that_end_with_the_probe_are_refused(
    tmp_path: Path, strategy: LPFT, epochs: int
) -> None:
    data = tiny_data()
    built = module(data, strategy=strategy)
    with pytest.raises(ValueError, match=r"LPFT probes for 1 epoch, and the run has 1: nothing"):
        trainer(tmp_path, max_epochs=epochs, max_steps=5).fit(built, data)


def test_the_probe_takes_half_of_a_run_of_steps(tmp_path: Path) -> None:
    data = tiny_data()
    built = module(data, strategy=LPFT(), scheduler=ProbeThenCosine)
    run = trainer(tmp_path, max_epochs=-1, max_steps=15)
    run.fit(built, data)
    assert built.fine_tuning.record(built)["thaws"] == {"LPFT": [2]}
    assert run.global_step == 15


def test_a_resumed_run_that_is_made_longer_keeps_its_probe(tmp_path: Path) -> None:
    def fit(epochs: int, **given: Any) -> Any:
        data = tiny_data()
        built = module(data, strategy=LPFT())
        run = trainer(tmp_path, max_epochs=epochs)
        run.fit(built, data, **given)
        run.save_checkpoint(tmp_path / "run.ckpt")
        return built

    short = fit(2)
    assert short.fine_tuning.record(short)["thaws"] == {"LPFT": [1]}
    longer = fit(6, ckpt_path=tmp_path / "run.ckpt")
    assert longer.fine_tuning.record(longer)["thaws"] == {"LPFT": [1]}


def test_a_schedule_without_steps_of_fine_tuning_is_refused() -> None:
    with pytest.raises(ValueError, match="LPFT probes for 5 steps, and the run has 5: nothing"):
        ProbeThenCosine(optimizer(), total_steps=5, probe_steps=5)


def test_older_configurations_find_it() -> None:
    assert import_module("tl.transfer.freezing").LPFT is LPFT
