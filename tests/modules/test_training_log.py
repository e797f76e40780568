from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from tests.small import module, tiny_data, trainer
from tl import Classification, Regression
from tl.modules.training_log import TrainingLog


def alone(values: Tensor, reduce_op: str) -> Tensor:
    assert reduce_op == "sum"
    return values


def module_of(reduce: Callable[..., Tensor] = alone) -> Any:
    """What a log asks of its module, in the first of several processes."""
    strategy = SimpleNamespace(reduce=reduce)
    run = SimpleNamespace(is_global_zero=True)
    return SimpleNamespace(
        trainer=SimpleNamespace(strategy=strategy), run=run, device=torch.device("cpu")
    )


def window_of(*names: str) -> TrainingLog:
    return TrainingLog({name: Classification(name, 2) for name in names})


def add(log: TrainingLog, task: str, loss: Tensor, output: Tensor, target: Tensor) -> None:
    log.add({task: loss}, {task: (output, target)})


def test_the_sums_are_those_of_the_batches_since_the_last_log(tmp_path: Path) -> None:
    data = tiny_data()
    built, run = module(data), trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(built, data)
    [name] = built.tasks
    log = built.training_log
    assert not log.state(built)[name].any()  # the end of the epoch was logged
    output, target = torch.eye(10)[:4], torch.tensor([0, 1, 2, 4])
    log.add({name: torch.tensor(2.0)}, {name: (output, target)})
    assert log.state(built)[name].tolist() == [8.0, 3.0, 4.0]  # loss, right answers, samples
    assert log.not_finite(built) == []
    log.add({name: torch.tensor(torch.nan)}, {name: (output, target)})
    assert log.not_finite(built) == [name]
    log.drop([name])
    assert not log.state(built)[name].any()


class Stops(Callback):
    """Ends a run within its epoch."""

    def on_train_batch_end(self, *args: Any, **_: Any) -> None:
        raise RuntimeError("enough")


def test_a_run_that_ended_within_an_epoch_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    data = tiny_data()
    built, alone = module(data), module(data)
    with pytest.raises(RuntimeError, match="enough"):
        trainer(tmp_path, max_epochs=1, callbacks=[Stops()]).fit(built, data)
    state = {name: value.clone() for name, value in built.state_dict().items()}
    alone.load_state_dict(state)
    found = []
    for each in (built, alone):
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=2)
        run.fit(each, data)
        found.append({k: v for k, v in run.callback_metrics.items() if k.startswith("train/")})
    assert found[0]["train/loss"] > 0
    assert found[0] == found[1]


def test_means_are_over_samples_not_batches() -> None:
    window = window_of("a")
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    add(window, "a", torch.tensor(3.0), logits, torch.tensor([0, 0, 0]))
    add(window, "a", torch.tensor(1.0), logits[:1], torch.tensor([1]))
    means = window.means(module_of())
    assert means["a"]["loss"].item() == pytest.approx((3 * 3 + 1) / 4)
    assert means["a"]["acc"].item() == pytest.approx(2 / 4)
    assert window.means(module_of()) == {}


def test_processes_are_added() -> None:
    window = window_of("a")
    add(window, "a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    other = torch.tensor([6 * 1.0, 6.0, 6.0])  # six more samples: loss 1, all right
    means = window.means(module_of(lambda values, **_: values + other))
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 + 6) / 8)
    assert means["a"]["acc"].item() == pytest.approx(7 / 8)


def test_a_resumed_log_continues_with_the_sums_of_all_processes() -> None:
    first, second = window_of("a"), window_of("a")
    add(first, "a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    second.load(module_of(), first.state(module_of(lambda values, **_: 2 * values)))
    add(second, "a", torch.tensor(5.0), torch.eye(2), torch.tensor([0, 1]))
    means = second.means(module_of(lambda values, **_: values))
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 * 2 + 2 * 5) / 6)


def test_a_process_that_saw_nothing_of_a_task_takes_part_in_its_sum() -> None:
    seen, blind = window_of("a", "b"), window_of("a", "b")
    add(seen, "b", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    add(blind, "a", torch.tensor(4.0), torch.eye(2), torch.tensor([0, 1]))
    shares: list[Tensor] = []

    def other(values: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        shares.append(values)
        return values

    blind.means(module_of(other))
    means = seen.means(module_of(lambda values, **_: values + shares[0]))
    assert {task: both["loss"].item() for task, both in means.items()} == {"a": 4.0, "b": 2.0}


def test_each_task_counts_what_it_has() -> None:
    tasks = Classification("a", 2), Regression("b"), Classification("c", 2, multi_label=True)
    window = TrainingLog({task.name: task for task in tasks})
    add(window, "a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    numbers = torch.tensor([[2.0], [torch.nan]])
    add(window, "b", torch.tensor(3.0), torch.tensor([[1.0], [4.0]]), numbers)
    add(window, "c", torch.tensor(4.0), torch.eye(2), torch.tensor([[0, 1], [1, -1]]))
    means = window.means(module_of())
    assert {t: {k: float(v) for k, v in each.items()} for t, each in means.items()} == {
        "a": {"loss": 2.0, "acc": 0.5},
        "b": {"loss": 3.0, "mae": 1.0},
        "c": {"loss": 4.0},
    }


def test_a_tally_names_what_it_sums() -> None:
    class Short(Regression):
        tallied: ClassVar[tuple[str, ...]] = ("mae", "rmse")

    log = TrainingLog({"a": Short("a")})
    with pytest.raises(ValueError, match="task 'a' returns 1 sums, but `tallied` names mae, rmse"):
        add(log, "a", torch.tensor(1.0), torch.zeros(2, 1), torch.zeros(2, 1))
