from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning, GradientAccumulationScheduler
from lightning.pytorch.tuner.tuning import Tuner
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from tests.small import module, tiny_data, trainer
from tl.optim.schedule import WarmupCosine, build_schedule


def optimizer() -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def rates(scheduler: WarmupCosine, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_values_by_hand() -> None:
    found = rates(WarmupCosine(optimizer(), total_steps=8, warmup=0.5, final=0.1), 9)
    rise = [0.5, 1.0, 1.5, 2.0]
    fall = [2.0 * (0.1 + 0.9 / 2 * (1 + math.cos(math.pi * k / 4))) for k in range(5)]
    assert found == pytest.approx(rise + fall)
    assert found[-1] == pytest.approx(0.2)


@pytest.mark.parametrize(("name", "value"), [("total_steps", 0), ("warmup", 1.0), ("final", -0.1)])
def test_out_of_range(name: str, value: float) -> None:
    arguments = {"total_steps": 10, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        WarmupCosine(optimizer(), **arguments)  # type: ignore[arg-type]


def unit(factory: Any) -> tuple[str, bool]:
    config, filled = build_schedule(factory, optimizer(), lambda: 77)
    return config["interval"], filled


def test_total_steps_are_filled_in_where_they_are_taken_and_not_given() -> None:
    assert unit(WarmupCosine) == ("step", True)
    assert unit(partial(OneCycleLR, max_lr=1.0)) == ("step", True)
    assert unit(partial(WarmupCosine, total_steps=5)) == ("step", False)
    assert unit(partial(CosineAnnealingLR, T_max=5)) == ("epoch", False)


def test_the_class_of_what_a_function_makes_tells_the_unit() -> None:
    assert unit(lambda o: CosineAnnealingLR(o, T_max=5)) == ("epoch", False)
    assert unit(lambda o: WarmupCosine(o, total_steps=5)) == ("step", False)
    assert unit(lambda o: OneCycleLR(o, max_lr=1.0, total_steps=5)) == ("step", False)
    assert unit(lambda o: CyclicLR(o, 0.1, 0.2)) == ("step", False)
    assert unit(ReduceLROnPlateau) == ("epoch", False)


class Mine(LRScheduler):
    def get_lr(self) -> list[float | torch.Tensor]:
        return [0.1]


@pytest.mark.parametrize(
    "factory",
    [
        lambda o: LambdaLR(o, lambda step: 0.9**step),
        partial(MultiplicativeLR, lr_lambda=lambda _: 0.9),
        lambda o: ChainedScheduler([ConstantLR(o)]),
        lambda o: SequentialLR(o, [ConstantLR(o), ConstantLR(o)], [3]),
        Mine,
    ],
)
def test_a_unit_that_nobody_knows_is_asked_for(factory: Any) -> None:
    with pytest.raises(ValueError, match=r"per step or per epoch: return \{"):
        unit(factory)
    own = optimizer()
    said = {"scheduler": factory(own), "interval": "step", "frequency": 2}
    config, _ = build_schedule(lambda _: said, own, lambda: 77)
    assert config == {**said, "name": "lr"}


def test_a_class_may_tell_its_unit() -> None:
    class PerStep(Mine):
        interval = "step"

    assert unit(PerStep) == ("step", False)


def test_schedules_of_transformers_advance_per_step() -> None:
    optimization = pytest.importorskip("transformers.optimization")
    schedule = partial(optimization.get_linear_schedule_with_warmup, num_warmup_steps=7)
    config, filled = build_schedule(schedule, optimizer(), lambda: 77)
    assert (config["interval"], filled) == ("step", True)
    [factor] = config["scheduler"].lr_lambdas
    assert [factor(step) for step in (0, 7, 42, 77)] == [0.0, 1.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (3, "created a int; expected a scheduler"),
        ({"interval": "step"}, "created a NoneType"),
        ({"scheduler": "x", "intervall": "step"}, "created a str"),
    ],
)
def test_what_is_not_a_schedule_is_refused(made: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unit(lambda _: made)


def test_other_keys_and_units_are_refused() -> None:
    with pytest.raises(ValueError, match="has the unknown keys intervall; known are"):
        unit(lambda o: {"scheduler": ConstantLR(o), "intervall": "step"})
    with pytest.raises(ValueError, match="must be step or epoch, got 'batch'"):
        unit(lambda o: {"scheduler": ConstantLR(o), "interval": "batch"})


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (GradientAccumulationScheduler({1: 2}), "WarmupCosine depends on"),
        (BackboneFinetuning(), "use a strategy of `tl.transfer`"),
    ],
)
def test_callbacks_that_make_the_schedule_wrong_are_refused(
    tmp_path: Path, callback: Any, said: str
) -> None:
    data = tiny_data()
    with pytest.raises(ValueError, match=said):
        trainer(tmp_path, callbacks=[callback]).fit(module(data, scheduler=WarmupCosine), data)


def test_lightnings_finder_sets_the_learning_rate(tmp_path: Path) -> None:
    data = tiny_data()
    built = module(data)
    run = trainer(tmp_path, max_epochs=4)
    Tuner(run).lr_find(built, data, num_training=30, min_lr=1e-3, max_lr=1.0)
    assert built.lr is not None
    run.fit(built, data)
    assert run.optimizers[0].param_groups[0]["lr"] == built.lr


def test_a_length_in_other_words_is_kept() -> None:
    schedule = partial(OneCycleLR, max_lr=1.0, epochs=3, steps_per_epoch=4)
    config, filled = build_schedule(schedule, optimizer(), lambda: 77)
    assert (config["scheduler"].total_steps, config["interval"], filled) == (12, "step", False)


@pytest.mark.parametrize("other", [{"interval": "epoch"}, {"frequency": 2}])
def test_a_schedule_over_the_whole_run_advances_every_step(other: dict[str, Any]) -> None:
    def schedule(o: Optimizer, total_steps: int) -> dict[str, Any]:
        return {"scheduler": WarmupCosine(o, total_steps), **other}

    with pytest.raises(ValueError, match="received the steps of the run as `total_steps`"):
        build_schedule(schedule, optimizer(), lambda: 77)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (partial(CosineAnnealingLR, T_max=77), "`T_max` of 77"),
        (partial(CosineAnnealingLR, T_max=200), "`T_max` of 200"),
        (partial(CosineAnnealingWarmRestarts, T_0=8), "`T_0` of 8"),
        (partial(LinearLR, total_iters=20), "`total_iters` of 20"),
        (partial(StepLR, step_size=30), "`step_size` of 30"),
        (partial(MultiStepLR, milestones=[3, 40]), "`milestones` of 40"),
    ],
)
def test_a_schedule_per_epoch_beyond_the_epochs_of_the_run_is_asked_about(
    factory: Any, said: str
) -> None:
    def built(epochs: int, interval: str | None = None) -> str:
        config, _ = build_schedule(
            factory, optimizer(), lambda: 77, epochs=lambda: epochs, interval=interval
        )
        return str(config["interval"])

    match = f"its {said} is beyond the 7 epochs of this run; if it counts steps, set that: return"
    with pytest.raises(ValueError, match=match):
        built(7)
    assert built(200) == built(0) == "epoch"
    assert [built(7, unit) for unit in ("step", "epoch")] == ["step", "epoch"]


@pytest.mark.parametrize("factory", [WarmupCosine, partial(OneCycleLR, max_lr=1.0)])
def test_a_schedule_per_step_that_ends_within_the_epochs_is_asked_about(factory: Any) -> None:
    def built(length: int, interval: str | None = None) -> str:
        made = partial(factory, total_steps=length)
        config, _ = build_schedule(
            made, optimizer(), lambda: 77, epochs=lambda: 7, interval=interval
        )
        return str(config["interval"])

    with pytest.raises(ValueError, match="`total_steps` of 7 is at most the number of"):
        built(7)
    assert built(77) == built(7, "step") == "step"
    assert built(7, "epoch") == "epoch"


@pytest.mark.parametrize("frequency", [0, -1, 1.5, True])
def test_a_frequency_is_a_positive_whole_number(frequency: Any) -> None:
    said = f"`frequency` of a schedule must be 1 or more, got {frequency}"
    with pytest.raises(ValueError, match=said):
        unit(lambda o: {"scheduler": ConstantLR(o), "frequency": frequency})


def test_a_schedule_of_another_optimizer_is_refused() -> None:
    other = optimizer()
    with pytest.raises(ValueError, match="ConstantLR belongs to another optimizer"):
        unit(lambda _: ConstantLR(other))


def test_the_unit_is_said_once_and_of_a_schedule() -> None:
    said = {"interval": "step"}
    with pytest.raises(ValueError, match="dict has the interval step, but `scheduler_interval` is"):
        build_schedule(
            lambda o: {"scheduler": ConstantLR(o), **said},
            optimizer(),
            lambda: 77,
            interval="epoch",
        )
    data = tiny_data()
    with pytest.raises(ValueError, match="`scheduler_interval` is the unit of `scheduler`, which"):
        module(data, scheduler_interval="step")
    with pytest.raises(ValueError, match="`scheduler_interval` must be step or epoch, got 'x'"):
        module(data, scheduler=WarmupCosine, scheduler_interval="x")


def test_the_unit_beside_the_schedule_counts_in_a_run(tmp_path: Path) -> None:
    data = tiny_data()  # 5 steps an epoch
    cosine = partial(CosineAnnealingLR, T_max=10)
    with pytest.raises(ValueError, match="`T_max` of 10 is beyond the 2 epochs"):
        trainer(tmp_path).fit(module(data, scheduler=cosine), data)
    limits = {"max_steps": 10, "max_epochs": -1}
    with pytest.raises(ValueError, match="`T_max` of 10 is beyond the 2 epochs"):
        trainer(tmp_path, **limits).fit(module(data, scheduler=cosine), data)
    run = trainer(tmp_path)
    run.fit(module(data, scheduler=cosine, scheduler_interval="step"), data)
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)
    trainer(tmp_path, fast_dev_run=1).fit(module(data, scheduler=cosine), data)


def test_a_given_length_is_that_of_a_run_whose_steps_change(tmp_path: Path) -> None:
    data = tiny_data()  # 5 + ceil(5 / 2) steps

    def run(length: int) -> Any:
        found = trainer(tmp_path, callbacks=[GradientAccumulationScheduler({1: 2})])
        found.fit(module(data, scheduler=partial(WarmupCosine, total_steps=length)), data)
        return found

    for length in (10, 9):  # that of a run without the callback, and too long
        with pytest.raises(ValueError, match="or set the schedule's number of steps, 8 in this"):
            run(length)
    assert run(8).optimizers[0].param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_warm_up_steps_of_transformers_are_steps() -> None:
    optimization = pytest.importorskip("transformers.optimization")
    schedule = partial(optimization.get_constant_schedule_with_warmup, num_warmup_steps=3)
    assert unit(schedule) == ("step", False)
