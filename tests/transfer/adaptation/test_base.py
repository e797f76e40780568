from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torchjd.aggregation import UPGrad

from tests.small import Tiny, multitask_module, one_source, trainer
from tests.transfer.adaptation.domains import domains, features, step
from tl import (
    Classification,
    GeneratedDataModule,
    MultiTaskDataModule,
    MultiTaskModule,
    TransferModule,
)
from tl.backbones import CrossStitch, ResNet20
from tl.data import DataError
from tl.tasks import NTXent
from tl.transfer.adaptation import CORAL, DANN, MCC, MKMMD, Adaptation

KINDS = [CORAL, DANN, MCC, MKMMD]


def build(kind: type[Adaptation], data: Any, **options: Any) -> MultiTaskModule:
    return multitask_module(data, penalties=kind(), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_with_one_source_is_refused(kind: type[Adaptation]) -> None:
    with pytest.raises(ValueError, match=r"adapts to a source without labels, and the run has one"):
        TransferModule(Tiny(), Classification("a", 3), penalties=kind())
    with pytest.raises(ValueError, match=r"the run has one source; put both into"):
        build(kind, one_source())
    both = [Classification(name, 3, source=name) for name in ("a", "b")]
    with pytest.raises(ValueError, match="has the labelled sources a, b; put both"):
        MultiTaskModule(Tiny(), both, penalties=kind())
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`weight` must be 0 or more and finite, got {wrong}"):
            kind(weight=wrong)


@pytest.mark.parametrize("kind", [CORAL, MKMMD])
def test_a_batch_of_one_side_costs_nothing(kind: type[Adaptation]) -> None:
    found = kind()(step({"clean": features(1)}))
    assert float(found.detach()) == 0
    assert found.requires_grad


@pytest.mark.parametrize("kind", [CORAL, MKMMD])
def test_sides_are_told_by_what_trains_and_weighted(kind: type[Adaptation]) -> None:
    given = step({"odd": features(3), "clean": features(1), "b": features(2)})
    maths = kind().between(features(1), torch.cat([features(3), features(2)]), given)
    assert torch.allclose(kind(weight=2.0)(given), 2 * maths)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_norm", ["joint", "per_source_statistics"])
def test_it_moves_what_no_label_moves(kind: type[Adaptation], batch_norm: Any) -> None:
    data = domains()
    data.setup("fit")
    net = build(kind, data, batch_norm=batch_norm)
    seen: list[Any] = []
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(2, 6, 3, 32, 32, generator=drawn)
    batch: Any = {"clean": (images[0], torch.arange(6)), "odd": (images[1], {})}
    losses, _ = net.task_losses(batch, smooth=True, seen=seen)
    assert list(losses) == ["clean"]
    assert list(seen[0].features) == ["clean", "odd"]
    given = type(seen[0])(**{**vars(seen[0]), "progress": 0.5})
    torch.autograd.backward(net.penalties.term(given))
    assert net.backbone.get_parameter("conv.weight").grad is not None
    without = multitask_module(data)
    before: list[Any] = []
    without.task_losses(batch, smooth=True, seen=before)
    assert list(before[0].features) == ["clean"]  # nothing needs the other's


@pytest.mark.parametrize(
    ("kind", "more"),
    [(CORAL, {}), (DANN, {"batch_norm": "per_source_statistics"}), (MCC, {"label_smoothing": 0.1})],
)
def test_a_run_trains_tests_and_names_the_oracle(
    kind: type[Adaptation], more: Any, tmp_path: Path
) -> None:
    data = domains()
    net = build(kind, data, **more)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(net, data)
    found = {name for name in run.callback_metrics if name.startswith("val/odd/")}
    assert found == {"val/odd/oracle", "val/odd/oracle_loss"}
    assert run.callback_metrics["val/acc"] == run.callback_metrics["val/clean/acc"]
    [metrics] = run.test(net, datamodule=data, verbose=False)
    assert {"test/odd/acc", "test/clean/acc"} <= metrics.keys()


def test_a_balancer_weighs_the_labelled_tasks_alone(tmp_path: Path) -> None:
    data = domains()
    more = GeneratedDataModule(train_size=60, test_size=40, draw_seed=2)
    data.sources = {**data.sources, "more": more}
    net = build(CORAL, data, balancer=UPGrad())
    run = trainer(tmp_path, max_epochs=1)
    run.fit(net, data)
    assert net.balancer is not None
    assert [*net.balancer.tasks] == ["clean", "more"]
    assert {"val/odd/oracle", "train/more/loss"} <= {*run.callback_metrics}


def test_labels_are_not_there_to_be_read(tmp_path: Path) -> None:
    """Labels of another size, which would stop whatever read one."""

    class Poisoned(GeneratedDataModule):
        def official_splits(self) -> Any:
            return ("train", "val", "test")

        def load(self, split: Any) -> Any:
            data = super().load("test" if split == "val" else split)
            if split == "train":
                crash: Any = Crash()
                data.all_targets = dict.fromkeys(data.all_targets, crash)
            return data

    class Crash:
        def __getitem__(self, index: object) -> None:
            raise AssertionError("a label was read")

    def run(source: GeneratedDataModule) -> None:
        data = domains()
        data.sources = {**data.sources, "odd": source}
        net = build(DANN, data)
        trainer(tmp_path, max_epochs=1).fit(net, data)

    run(Poisoned(train_size=60, test_size=20, labels="none"))
    with pytest.raises(AssertionError, match="a label was read"):
        Poisoned(train_size=60, test_size=20).setup("fit")


def test_labels_change_nothing_in_training(tmp_path: Path) -> None:
    class Relabelled(GeneratedDataModule):
        def load(self, split: Any) -> Any:
            data = super().load(split)
            if split == "train":
                data.all_targets = {n: (t + 3) % 10 for n, t in data.all_targets.items()}
            return data

    weights = []
    for kind in (GeneratedDataModule, Relabelled):
        data = domains()
        odd = kind(train_size=60, test_size=40, labels="none", draw_seed=1)
        data.sources = {**data.sources, "odd": odd}
        net = build(MKMMD, data)
        trainer(tmp_path, max_epochs=1, limit_val_batches=0).fit(net, data)
        weights.append([parameter.detach() for parameter in net.parameters()])
    assert all(map(torch.equal, *weights))


def test_a_task_that_trains_on_withheld_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="whose source 'odd' has `labels: none`: training would"):
        _ = domains(trains={"odd": True}).tasks
    with pytest.raises(ValueError, match="nothing trains a head of task 'odd'; name the task"):
        _ = domains(shares=None).tasks
    alone = GeneratedDataModule(train_size=60, test_size=20, labels="none")
    net = TransferModule(Tiny(), alone.tasks[0])
    with pytest.raises(DataError, match="'generated10' trains on labels, and its source"):
        trainer(tmp_path, max_epochs=1).fit(net, alone)
    with pytest.raises(DataError, match="reads the labels that `labels: none` withholds"):
        trainer(tmp_path, max_epochs=1).fit(build(CORAL, domains()), domains(sampling="balanced"))
    several = multitask_module(domains())
    with pytest.raises(ValueError, match="Task 'clean' trains on labels, and its source withholds"):
        several.task_losses({"clean": (torch.zeros(2, 3, 32, 32), {})}, smooth=True)


@pytest.mark.parametrize("withheld", [True, False])
def test_a_self_supervised_task_learns_beside_a_labelled_one(
    tmp_path: Path, *, withheld: bool
) -> None:
    def data() -> MultiTaskDataModule:
        views = GeneratedDataModule(
            train_size=60,
            test_size=40,
            draw_seed=1,
            labels="none" if withheld else "all",
            learns=NTXent(hidden=4, size=4),
        )
        clean = GeneratedDataModule(train_size=60, test_size=40)
        return MultiTaskDataModule({"clean": clean, "views": views}, batch_size=20, val_size=0.2)

    tasks = {task.name: task.trains for task in data().tasks}
    assert tasks == {"clean": True, "views": True}
    net = multitask_module(data())
    run = trainer(tmp_path, max_epochs=1)
    before = [p.detach().clone() for p in net.heads["views"].parameters()]
    run.fit(net, data())
    moved = zip(net.heads["views"].parameters(), before, strict=True)
    assert any(not torch.equal(one, other) for one, other in moved)
    assert "train/views/loss" in run.callback_metrics
    # its labels are no labels to a penalty
    penalty = CORAL()
    penalty.check({task.name: task for task in data().tasks})
    given = step({"clean": features(0), "views": features(1)})
    given = replace(given, sources={"clean": "clean", "views": "views"})
    wanted = CORAL()(step({"clean": features(0), "views": features(1)})).item()
    assert penalty(given).item() == pytest.approx(wanted)
    assert wanted > 0


def test_the_split_of_an_unlabelled_source_is_found_again() -> None:
    data = domains()
    data.setup("fit")
    odd = data.sources["odd"]
    assert odd.describe()["labels"] == "none"
    again = GeneratedDataModule(train_size=60, test_size=40, draw_seed=1, val_size=0.5)
    again.data_name = "odd"
    again.adopt(data.describe(), 2)
    again.setup("validate")
    assert torch.equal(again.splits["val"].index, odd.splits["val"].index)


def test_a_target_that_training_does_not_read_is_refused(tmp_path: Path) -> None:
    data = domains()
    odd = GeneratedDataModule(train_size=60, test_size=40, draw_seed=1)
    data.sources = {**data.sources, "odd": odd}
    data.trains = {"odd": False}
    with pytest.raises(ValueError, match=r"CORAL adapts .* does not read odd: .*`labels: none`"):
        trainer(tmp_path, max_epochs=1).fit(build(CORAL, data), data)


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_a_task_each_are_refused(kind: type[Adaptation]) -> None:
    with pytest.raises(ValueError, match=r"and CrossStitch has other ones for each task; choose a"):
        MultiTaskModule(CrossStitch(ResNet20()), domains().tasks, penalties=kind())
