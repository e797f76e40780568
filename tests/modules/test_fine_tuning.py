"""Strategies in training: what is frozen stays, what balances goes on, and what is said of it."""

from __future__ import annotations

import csv
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.optim.lr_scheduler import CyclicLR
from torchjd.aggregation import UPGrad

from tests.modules.staged_runs import EPOCHS, OPTIMIZERS, SCHEDULERS, STAGES, Watch, built, fit
from tests.small import (
    Staged,
    every_strategy,
    multitask_module,
    name_of,
    tiny_data,
    trainer,
    two_sources,
)
from tl import TransferModule
from tl.backbones import ResNet18
from tl.balancing import GradNorm
from tl.cli import main
from tl.transfer import (
    LPFT,
    FullFineTuning,
    GradualUnfreezing,
    LayerWiseDecay,
    LinearProbe,
    Strategy,
    SurgicalFineTuning,
)

# Frozen means frozen; on two processes too, in test_fine_tuning_ddp.py


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("strategy", every_strategy(), ids=name_of)
def test_what_is_frozen_keeps_every_bit(strategy: Strategy, optimizer: str, tmp_path: Path) -> None:
    """With momentum and weight decay on, and validation within and between the epochs."""
    watch = Watch()
    ours = built(strategy, optimizer=OPTIMIZERS[optimizer])
    fit(tmp_path, ours, callbacks=[watch], val_check_interval=1)
    firsts = strategy.first_epochs(STAGES)
    assert watch.violations == []
    assert watch.thawed == {stage for stage, epoch in firsts.items() if epoch is not None}
    assert watch.frozen_epochs == sum(EPOCHS if e is None else e for e in firsts.values())


@pytest.mark.parametrize("bn", ["frozen", "adapt_stats", "train"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_batch_norm_does_as_named(bn: Any, optimizer: str, tmp_path: Path) -> None:
    ours = built(SurgicalFineTuning(["layer1"], bn=bn), optimizer=OPTIMIZERS[optimizer])
    before = {k: v.clone() for k, v in ours.backbone.state_dict().items()}
    run = fit(tmp_path, ours, max_epochs=2, val_check_interval=1)
    moved = {k for k, v in ours.backbone.state_dict().items() if not torch.equal(v, before[k])}
    parameters = {k for k, _ in ours.backbone.named_parameters() if k.startswith("layer1")}
    statistics = {k for k, _ in ours.backbone.named_buffers()}
    adapted = {
        "frozen": set(),
        "adapt_stats": statistics,
        "train": {k for k in statistics if k.startswith("layer1")},
    }
    assert moved == parameters | adapted[bn]
    drift = float(run.callback_metrics["transfer/bn_drift"])
    assert (drift == 0.0) is (bn == "frozen")


def test_modes_are_set_again_after_whoever_evaluates(tmp_path: Path) -> None:
    class Careless(Callback):
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, *args: Any
        ) -> None:
            pl_module.eval()
            pl_module.train()

    ours = built(LinearProbe())
    before = {k: v.clone() for k, v in ours.backbone.state_dict().items()}
    fit(tmp_path, ours, max_epochs=1, callbacks=[Careless()])
    for name, value in ours.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


# With balancers and every way of training


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("balancer", [None, UPGrad, GradNorm], ids=str)
@pytest.mark.parametrize("strategy", every_strategy(), ids=name_of)
def test_works_with_balancers_accumulation_clipping_and_bf16(
    strategy: Strategy, balancer: Any, tmp_path: Path
) -> None:
    """Rows are those of the stages that train; without any, the heads train by themselves."""
    ours: Any = multitask_module(two_sources(), Staged, strategy=strategy, balancer=balancer)
    widths: list[int] = []
    if balancer is UPGrad:
        ours.balancer.method.register_forward_pre_hook(
            lambda _, given: widths.append(given[0].shape[1])
        )
    watch = Watch()
    run = fit(
        tmp_path,
        ours,
        limit_train_batches=2,
        limit_val_batches=1,
        callbacks=[watch],
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        gradient_clip_val=0.1,
    )
    assert run.global_step == EPOCHS
    assert all(bool(p.isfinite().all()) for p in ours.parameters())
    sizes = {
        s: sum(p.numel() for m in ms for p in m.parameters()) for s, ms in ours.stages().items()
    }
    shared = [
        sum(sizes[stage] for stage in strategy.trainable(epoch, STAGES) - {"head"})
        for epoch in range(EPOCHS)
    ]
    assert watch.violations == []
    assert watch.thawed == {s for s, e in strategy.first_epochs(STAGES).items() if e is not None}
    if balancer is UPGrad:
        assert widths == [width for width in shared if width]
    if balancer is GradNorm:  # learns only from what trains
        assert (ours.balancer.weights.tolist() != [1.0] * 3) is any(shared)


# What is said


def test_six_learning_rates_are_logged_by_group(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = tiny_data(train_size=70, test_size=20, batch_size=4)
    ours = TransferModule(
        ResNet18(),
        data.tasks[0],
        strategy=LayerWiseDecay(0.5),
        optimizer=OPTIMIZERS["sgd"],
        scheduler=SCHEDULERS["cosine"],
    )
    logger = CSVLogger(tmp_path)
    monitor = LearningRateMonitor(logging_interval="step")
    settings = {"limit_train_batches": 2, "limit_val_batches": 0, "max_epochs": 1}
    run = trainer(tmp_path, logger=logger, callbacks=[monitor], **settings)
    run.fit(ours, data)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row["lr/head"]][-1]
    stages = ["head", "layer4", "layer3", "layer2", "layer1", "stem"]
    head = float(last["lr/head"])
    assert 0 < head < 0.1  # the schedule has moved
    for depth, stage in enumerate(stages):
        for name in (stage, f"{stage}_no_decay"):
            assert float(last[f"lr/{name}"]) == pytest.approx(head * 0.5**depth), name


def test_a_table_is_said_at_the_start_and_what_trains_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = built(LPFT(probe_epochs=1))
    probe: dict[str, float] = {}

    class Look(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            for name, value in trainer.callback_metrics.items():
                probe.setdefault(name, float(value))

    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(tmp_path, ours, callbacks=[Look()], max_epochs=2, limit_val_batches=0)
    [said] = [record.message for record in caplog.records if "trains from epoch" in record.message]
    assert said.startswith("tl: LPFT\ngroup")
    assert "frozen, train from 1" in said
    # 8 features to 10 classes, and 10 biases
    assert probe["transfer/trainable_parameters"] == 90
    assert probe["transfer/bn_drift"] == 0


def test_what_thaws_after_the_end_is_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="unfreezes stem, layer1 after the end of this run of 2"):
        fit(tmp_path, built(GradualUnfreezing()), max_epochs=2, limit_val_batches=0)


def test_new_heads_that_never_train_are_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="never trains the heads, which are new"):
        fit(tmp_path, built(SurgicalFineTuning(["layer1"])), max_epochs=1, limit_val_batches=0)


def test_drift_is_measured_from_the_start_of_the_run_also_after_a_resume(tmp_path: Path) -> None:
    whole = built(FullFineTuning())
    saved = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    settings: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}
    expected = fit(tmp_path, whole, callbacks=[saved], **settings).callback_metrics
    again = fit(tmp_path, built(FullFineTuning()), tmp_path / "epoch=0.ckpt", max_epochs=2)
    assert again.callback_metrics["transfer/bn_drift"] == expected["transfer/bn_drift"] > 0
    # a new run of the same module starts anew
    anew = fit(tmp_path, whole, max_epochs=1, limit_train_batches=1)
    assert 0 < anew.callback_metrics["transfer/bn_drift"] < expected["transfer/bn_drift"]


def test_a_stage_that_is_not_there_is_a_line_and_a_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="'layer4', which the backbone lacks"):
        built(SurgicalFineTuning(["layer4"]))
    monkeypatch.chdir(Path(__file__).parents[2])
    command = [
        *("fit", "--config=configs/transfer_cifar100.yaml", "--config=configs/overlays/quick.yaml"),
        "--config=configs/transfer/surgical_fine_tuning.yaml",
        "--model.init_args.strategy.init_args.stages=[layer4]",
        f"--log_dir={tmp_path}",
    ]
    code = main(command)
    assert code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.endswith(
        "SurgicalFineTuning names the stage 'layer4', which the backbone lacks; its stages are "
        "stem, layer1, layer2, layer3, head."
    )


def test_a_schedule_that_levels_the_stages_rates_is_refused(tmp_path: Path) -> None:
    levelling = partial(CyclicLR, base_lr=0.01, max_lr=0.1)
    with pytest.raises(ValueError, match="CyclicLR sets one range"):
        fit(tmp_path, built(GradualUnfreezing(), scheduler=levelling))
