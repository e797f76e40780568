"""Evaluation in a second domain: one head for two tasks, labels that never train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader
from torchjd.aggregation import PCGrad, UPGrad

from tests.modules.test_kinds import Signal, adam, loaders, samples
from tests.small import trainer
from tl import Classification, MultiTaskModule, Regression, Task
from tl.balancing import DynamicTaskPrioritization, Uncertainty
from tl.callbacks import GradientDiagnostics, PredictionWriter, RunCheckpoint

SOURCE = Classification("a", 3, source="one", target="a")
LEVEL = Regression("c", source="one", target="c")
TARGET = Classification("t", 3, source="two", target="a", shares="a", trains=False)
TASKS = [SOURCE, LEVEL, TARGET]


def both(labels: int | None = None) -> Any:
    """Two domains; the second one's labels may be such as would stop a run."""
    inputs, targets = samples(16)
    other = targets if labels is None else {**targets, "a": torch.full((16,), labels)}
    return {"one": loaders(inputs, targets), "two": loaders(inputs.flip(0), other)}


def build(tasks: list[Task], balancer: Any = None, **options: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(Signal(), tasks, balancer=balancer, optimizer=adam, **options)


@pytest.mark.parametrize("balancer", [None, Uncertainty, PCGrad, UPGrad])
@pytest.mark.parametrize("batch_norm", ["joint", "per_source"])
def test_labels_that_do_not_train_change_nothing(
    balancer: Any, batch_norm: Any, tmp_path: Path
) -> None:
    def fit(tasks: list[Task], train: Any) -> Any:
        made = None if balancer is None else balancer()
        network = build(tasks, made, batch_norm=batch_norm)
        run = trainer(tmp_path, callbacks=[GradientDiagnostics(1)])
        run.fit(network, train, CombinedLoader(both(), "max_size"))
        return network.state_dict(), {k: float(v) for k, v in run.callback_metrics.items()}

    alone, metrics = fit(TASKS[:2], {"one": both()["one"]})
    # of three classes there is no 999th: whatever reads it stops
    with_target, more = fit(TASKS, both(labels=999))
    assert [name for name in with_target if name.startswith("heads.")] == [
        *("heads.a.weight", "heads.a.bias", "heads.c.weight", "heads.c.bias")
    ]
    tensors = {name: value for name, value in alone.items() if torch.is_tensor(value)}
    kept = [name for name in tensors if not name.startswith("_evaluations")]
    assert all(torch.equal(with_target[name], tensors[name]) for name in kept)
    assert {"val/t/acc", "val/t/loss"} == more.keys() - metrics.keys()
    assert {name: more[name] for name in metrics} == metrics  # `val/loss` among them


def test_such_a_task_is_scored_resumed_and_predicted_by_the_shared_head(tmp_path: Path) -> None:
    keep = RunCheckpoint(tmp_path, "best", monitor="auto", enable_version_counter=False)
    last = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
    tasks: list[Task] = [SOURCE, TARGET]
    network = build(tasks)
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep, last])
    run.fit(network, both(), CombinedLoader(both(), "max_size"))
    assert keep.monitor == "val/acc"
    assert run.callback_metrics["val/acc"] == run.callback_metrics["val/a/acc"]
    inputs, _ = samples(16)
    network.eval()
    found = network(inputs)
    assert torch.equal(found["a"], found["t"])
    loaded = MultiTaskModule.load_from_checkpoint(tmp_path / "last.ckpt", backbone=Signal())
    assert loaded.tasks == network.tasks
    assert [*loaded.trained_tasks] == ["a"]
    longer = trainer(tmp_path, max_epochs=3)
    longer.fit(build(tasks), both(), ckpt_path=str(tmp_path / "last.ckpt"))
    assert longer.global_step == 6
    writer = trainer(tmp_path, callbacks=[PredictionWriter("predictions.csv")])
    writer.predict(network, CombinedLoader({"two": both()["two"]}, "sequential"))


def test_two_domains_may_train_one_head(tmp_path: Path) -> None:
    second = Classification("t", 3, source="two", target="a", shares="a")
    for balancer in (None, PCGrad(), Uncertainty(), DynamicTaskPrioritization()):
        network = build([SOURCE, second], balancer)
        trainer(tmp_path, max_epochs=1).fit(network, both())
        assert [*network.heads] == ["a"]
        assert all(value.isfinite().all() for value in network.parameters())


def test_what_cannot_be_shared_stops_the_constructor() -> None:
    with pytest.raises(ValueError, match="shares the head of 'z', which is not a task"):
        build([SOURCE, Classification("t", 3, shares="z")])


def test_statistics_of_a_source_that_does_not_train_are_never_estimated() -> None:
    with pytest.raises(ValueError, match="cannot evaluate the source 'two': no task trains on it"):
        build(TASKS, batch_norm="per_source_statistics")
