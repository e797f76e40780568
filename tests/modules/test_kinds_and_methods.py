"""What is built around training, with tasks that are not classifications."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests.modules.test_kinds import KINDS, Pair, Signal, adam, build, read, samples
from tests.small import trainer
from tl import Classification, MultiTaskModule, Regression, Task, TransferModule
from tl.balancing import DynamicTaskPrioritization, GradNorm
from tl.callbacks import Dashboard, RunCheckpoint, SourceAccuracy, Throughput
from tl.callbacks.compute import flops_per_image
from tl.data import TensorDataModule
from tl.transfer import LPFT, LinearProbe
from tl.transfer.penalties import BSS, EWC, L2SP, CoTuning, Distillation, LwF

LEVEL = Regression("c", target="c")
LABEL = Classification("a", 3, target="a")
MIXED = KINDS["mixed"]


def pairs(tasks: list[Task]) -> TensorDataModule:
    inputs, targets = samples()
    left, right = inputs.unbind(1)
    return TensorDataModule({"left": left, "right": right}, targets, tasks=tasks, batch_size=8)


def fit(folder: Path, task: Task = LEVEL, callbacks: Any = (), **options: Any) -> dict[str, float]:
    run = trainer(folder, callbacks=[*callbacks])
    run.fit(TransferModule(Signal(), task, optimizer=adam, **options), read([task]))
    return {name: float(value) for name, value in run.callback_metrics.items()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checkpoints of a classification, a regression, and a classification of dicts."""
    folder = tmp_path_factory.mktemp("sources")
    for task in (LABEL, LEVEL):
        keep = ModelCheckpoint(folder, task.name)
        run = trainer(folder, max_epochs=1, enable_checkpointing=True, callbacks=[keep])
        run.fit(TransferModule(Signal(), task, optimizer=adam), read([task]))
    return {name: str(folder / f"{name}.ckpt") for name in ("a", "c")}


@pytest.mark.parametrize("net", [Signal, Pair])
def test_the_dashboard_shows_what_there_is(net: Any, tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    run = trainer(tmp_path, logger=logger, callbacks=[Dashboard(every_n_epochs=1), Throughput()])
    run.fit(build(MIXED, net=net), pairs(MIXED) if net is Pair else read(MIXED))
    shown = EventAccumulator(logger.log_dir)
    shown.Reload()
    tags = shown.Tags()
    answers = {"val/confusion/a", "val/classes/a", "val/scatter/d", "val/labels/e"}
    samples = {f"val/mistakes/{name}" for name in "ade"} if net is Signal else set()
    assert set(tags["images"]) == answers | samples
    assert "custom_scalars__config__" in tags["tensors"]
    assert {"val/d/mae", "val/e/map", "train/d/mae", "perf/mfu"} <= set(tags["scalars"])
    assert tags["graph"] == (net is Signal)


def test_operations_are_counted_per_sample_of_a_dict() -> None:
    inputs, targets = samples(8)
    left, right = inputs.unbind(1)
    plain = flops_per_image(build(MIXED), (inputs, targets))
    assert flops_per_image(build(MIXED, net=Pair), ({"left": left, "right": right}, targets)) == (  # type: ignore[arg-type]
        plain
    )


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (EarlyStopping("val/mae", mode="max"), "better when lower; set `mode: min`"),
        (EarlyStopping("val/r2", mode="min"), "better when higher; set `mode: max`"),
    ],
)
def test_a_score_is_followed_in_its_direction(callback: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        fit(tmp_path, callbacks=[callback])
    with pytest.raises(ValueError, match="better when lower"):
        fit(
            tmp_path,
            scheduler=lambda o: {
                "scheduler": ReduceLROnPlateau(o, mode="max"),
                "monitor": "val/mae",
            },
        )
    fit(tmp_path, scheduler=partial(ReduceLROnPlateau, mode="min"))


@pytest.mark.parametrize(
    ("tasks", "monitor", "mode"),
    [([LEVEL], "val/mae", "min"), (MIXED, "val/loss", "min"), ([LABEL], "val/acc", "max")],
)
def test_a_checkpoint_follows_the_score_that_decides(
    tasks: list[Task], monitor: str, mode: str, tmp_path: Path
) -> None:
    keep = RunCheckpoint(tmp_path, "best", monitor="auto")
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[keep])
    run.fit(MultiTaskModule(Signal(), tasks, optimizer=adam), read(tasks))
    assert (keep.monitor, keep.mode) == (monitor, mode)
    assert keep.best_model_score is not None


def test_strategies_and_the_learning_rate_finder_ask_no_kind(tmp_path: Path) -> None:
    assert fit(tmp_path, strategy=LinearProbe())["transfer/trainable_parameters"] == 9
    fit(tmp_path, strategy=LPFT(probe_epochs=1, backbone_lr=0.5))
    fit(tmp_path, callbacks=[LearningRateFinder(num_training_steps=5)])


def test_label_smoothing_without_a_classification_is_refused() -> None:
    for make in (
        lambda: TransferModule(Signal(), LEVEL, label_smoothing=0.1),
        lambda: setattr(TransferModule(Signal(), LEVEL), "label_smoothing", 0.1),
    ):
        with pytest.raises(ValueError, match="`label_smoothing` is for classifications"):
            make()
    assert MultiTaskModule(Signal(), MIXED, label_smoothing=0.1).label_smoothing == 0.1


def test_balancers_that_ask_for_an_accuracy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="by their accuracy, which d does not have"):
        trainer(tmp_path).fit(build(MIXED, DynamicTaskPrioritization()), read(MIXED))
    trainer(tmp_path).fit(build(MIXED, GradNorm()), read(MIXED))


@pytest.mark.parametrize("penalty", [Distillation, CoTuning])
def test_penalties_on_classes_refuse_other_tasks(
    penalty: Any, sources: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="the task 'c' is not one"):
        fit(tmp_path, penalties=penalty(), init_from=sources["a"])
    for task, said in (("e", "the task 'e' is not one"), (None, "set `task` to one of a, d, e")):
        module = MultiTaskModule(
            Signal(), MIXED, penalties=penalty(task=task), init_from=sources["a"]
        )
        run = trainer(tmp_path)
        with pytest.raises(ValueError, match=said):
            run.fit(module, read(MIXED))
        assert run.global_step == 0
    module = MultiTaskModule(Signal(), MIXED, penalties=penalty(task="a"), init_from=sources["a"])
    trainer(tmp_path).fit(module, read(MIXED))
    assert all(value.isfinite() for value in module.penalty_values().values())


def test_a_source_whose_answers_are_compared_is_a_classification(
    sources: dict[str, str], tmp_path: Path
) -> None:
    for penalty in (LwF(), EWC(read([LABEL]), images=4)):
        with pytest.raises(ValueError, match="the head of 'c' gives 1 number; the source must be"):
            fit(tmp_path, penalties=penalty, init_from=sources["c"])
    with pytest.raises(ValueError, match=r"SourceAccuracy reads images: .*got TensorDataModule"):
        SourceAccuracy(read([LABEL]))  # type: ignore[arg-type]


def test_penalties_that_ask_no_kind_work_with_numbers_and_dicts(
    sources: dict[str, str], tmp_path: Path
) -> None:
    for penalty in (BSS(), L2SP(), LwF(), EWC(pairs([LABEL]), images=4)):
        module = MultiTaskModule(Pair(), MIXED, penalties=penalty, init_from=sources["a"])
        trainer(tmp_path, max_epochs=1).fit(module, pairs(MIXED))
        assert all(value.isfinite() for value in module.penalty_values().values())


def test_weights_of_one_kind_of_task_start_another(sources: dict[str, str], tmp_path: Path) -> None:
    started = TransferModule(Signal(), LEVEL, init_from=sources["a"])
    there = torch.load(sources["a"], weights_only=True)["state_dict"]
    for name, value in started.backbone.state_dict().items():
        assert torch.equal(value, there[f"backbone.{name}"])
    trainer(tmp_path, max_epochs=1).fit(started, read([LEVEL]))
    assert started.provenance is not None
    assert started.provenance["tasks"][0]["name"] == "a"
