"""Private names of Lightning that resuming, launching and logging rely on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from tests.private.names import find

PARTS = (
    "fit_loop._should_accumulate",
    "fit_loop._data_fetcher",
    "fit_loop._restarting",
    "fit_loop.restarted_mid_epoch",
    "fit_loop.on_advance_end",
    "fit_loop.reset_restart_stage",
    "fit_loop.epoch_loop._batches_that_stepped",
    "fit_loop.epoch_loop._should_check_val_fx",
    "fit_loop.epoch_loop.val_loop._has_run",
    "fit_loop.epoch_loop.val_loop._restart_stage",
    "fit_loop.epoch_loop.val_loop.restarted_mid_evaluation",
    "_logger_connector.log_metrics",
    "_accelerator_connector.cluster_environment",
    "strategy._launcher",
)
NAMES = (
    ("lightning.pytorch.loops.fit_loop", "_FitLoop._should_accumulate"),
    ("lightning.pytorch.loops.evaluation_loop", "RestartStage.RESTARTED_MID_EVALUATION"),
    ("lightning.pytorch.loops.evaluation_loop", "_EvaluationLoop"),
    ("lightning.pytorch.strategies.launchers", "_SubprocessScriptLauncher._call_children_scripts"),
    ("lightning.fabric.utilities.distributed", "_set_num_threads_if_needed"),
    *(
        ("lightning.pytorch.cli", f"LightningCLI.{name}")
        for name in ("_add_subcommands", "_prepare_subcommand_kwargs", "_parse_ckpt_path")
    ),
    *(("lightning.pytorch.cli", f"LightningCLI.{name}") for name in ("_parser", "_get")),
    *(
        ("lightning.pytorch.callbacks", f"ModelCheckpoint.{name}")
        for name in (
            *("_should_skip_saving_checkpoint", "_monitor_candidates", "_remove_checkpoint"),
            *("_save_topk_checkpoint", "_save_last_checkpoint", "_save_checkpoint"),
        )
    ),
)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")


@pytest.mark.parametrize("path", PARTS)
def test_a_trainer_has(trainer: Trainer, path: str) -> None:
    find(trainer, path, "lightning")


@pytest.mark.parametrize(("module", "path"), NAMES, ids=[path for _, path in NAMES])
def test_lightning_has(module: str, path: str) -> None:
    find(module, path, "lightning")


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (LightningModule, "_trainer"),
        (LightningModule, "_current_fx_name"),
        (ModelCheckpoint, "_last_global_step_saved"),
        (ModelCheckpoint, "_last_checkpoint_saved"),
        (LightningArgumentParser, "_actions"),
        (DDPStrategy, "_layer_sync"),  # of several devices only
        (DDPStrategy, "_launcher"),
        (lambda: TensorBoardLogger("."), "_experiment"),
    ],
)
def test_objects_have(made: Any, name: str) -> None:
    find(made(), name, "lightning")


@pytest.mark.parametrize(
    "key", ["epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict"]
)
def test_the_state_of_the_training_loop_has(trainer: Trainer, key: str) -> None:
    assert key in trainer.fit_loop.state_dict(), f"lightning's fit_loop.state_dict()[{key!r}]"


def test_the_state_of_the_training_loop_counts_steps_for_loggers(trainer: Trainer) -> None:
    from tl.private.lightning import STEPS_FOR_LOGGERS, count_steps_for_loggers  # noqa: PLC0415

    count_steps_for_loggers(trainer.fit_loop, 2)
    state = trainer.fit_loop.state_dict()["epoch_loop.state_dict"]
    assert state[STEPS_FOR_LOGGERS] == 2, f"lightning's {STEPS_FOR_LOGGERS} is gone"
    count_steps_for_loggers(trainer.fit_loop, -2)


def test_the_question_of_accumulation_is_lightnings_own(trainer: Trainer) -> None:
    from tl.private.lightning import should_accumulate  # noqa: PLC0415

    assert should_accumulate is type(trainer.fit_loop)._should_accumulate  # no call more


def test_a_module_keeps_its_first_hyperparameters() -> None:
    from tl.private.lightning import settle_hyperparameters  # noqa: PLC0415

    module = LightningModule()
    module.save_hyperparameters({"lr": 0.1})
    module.hparams["lr"] = 0.2
    assert module.hparams_initial["lr"] == 0.1
    settle_hyperparameters(module)
    assert module.hparams_initial["lr"] == 0.2, "lightning's LightningModule._hparams_initial"


def test_the_command_line_leaves_its_mark_in_hyperparameters() -> None:
    from lightning.pytorch import cli  # noqa: PLC0415

    from tl.private.lightning import INSTANTIATOR  # noqa: PLC0415

    assert f'"{INSTANTIATOR}"' in inspect.getsource(cli), f"lightning's {INSTANTIATOR!r} is gone"


def test_what_subclasses_of_ours_use_is_there(tmp_path: Path) -> None:
    from tests.private.names import has_inherited  # noqa: PLC0415
    from tl.private.lightning import INHERITED  # noqa: PLC0415

    made = (LightningModule(), ModelCheckpoint(tmp_path), LightningArgumentParser())
    has_inherited(INHERITED, "lightning", *made, TensorBoardLogger(tmp_path))
