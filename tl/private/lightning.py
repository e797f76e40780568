"""Private names of Lightning, seen in 2.6.0 and 2.6.6; `tests/private` finds those that are gone.

Functions that a training step calls are Lightning's own under another name: no call is added.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loops.evaluation_loop import RestartStage, _EvaluationLoop
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

# What subclasses of ours override, call or set of their base: it must keep its name there.
INHERITED: dict[type, tuple[str, ...]] = {
    LightningModule: ("_trainer",),
    ModelCheckpoint: (
        *("_should_skip_saving_checkpoint", "_monitor_candidates", "_remove_checkpoint"),
        *("_save_topk_checkpoint", "_save_last_checkpoint", "_save_checkpoint"),
        *("_last_global_step_saved", "_last_checkpoint_saved"),
    ),
    LightningCLI: (
        *("_add_subcommands", "_prepare_subcommand_kwargs", "_parse_ckpt_path"),
        *("_run_subcommand", "_set_seed", "_parser", "_get"),
    ),
    LightningArgumentParser: ("_actions",),
    TensorBoardLogger: ("_experiment",),
    RichProgressBar: ("_get_train_description",),
    _SubprocessScriptLauncher: ("_call_children_scripts",),
}
#: What a ``ModelCheckpoint`` notes of the last file, before it is written.
LAST_SAVED = ("_last_global_step_saved", "_last_checkpoint_saved")

# The training loop

#: Whether the batch just trained leaves the optimiser's step to a later one; of a fit loop.
should_accumulate = _FitLoop._should_accumulate
#: The hook in force, an attribute of the module; Lightning sets it some fifty times a step.
CURRENT_HOOK = "_current_fx_name"
#: Key in ``epoch_loop.state_dict``: steps counted for the loggers.
STEPS_FOR_LOGGERS = "_batches_that_stepped"


def validation_is_due(loop: _FitLoop) -> bool:
    """Return whether a validation follows the batch that was trained last."""
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]


def has_validated(trainer: Trainer) -> bool:
    """Return whether training has validated, after any sanity check."""
    return trainer.fit_loop.epoch_loop.val_loop._has_run


def count_steps_for_loggers(loop: _FitLoop, by: int) -> None:
    """Change the number of steps that loggers see."""
    loop.epoch_loop._batches_that_stepped += by


def forget_restart(loop: _FitLoop) -> None:
    """Have a loop take itself for one that was not restored; its setter would do more."""
    loop._restarting = False


def restart_within_evaluation(loop: _EvaluationLoop) -> None:
    """Have a loop make up for an evaluation, as if that had been interrupted."""
    loop._restart_stage = RestartStage.RESTARTED_MID_EVALUATION


def log_to_loggers(trainer: Trainer, values: Mapping[str, Any]) -> None:
    """Hand values to all loggers, with the step that Lightning counts for them."""
    trainer._logger_connector.log_metrics(values)  # type: ignore[arg-type]


# Hyperparameters

#: Hyperparameter of modules that the command line builds.
INSTANTIATOR = "_instantiator"


def settle_hyperparameters(module: LightningModule) -> None:
    """Take a module's hyperparameters as they are now for those it began with."""
    module._hparams_initial = copy.copy(module.hparams)  # type: ignore[assignment]


# Processes

#: Starts the other processes of one machine by the same command.
ScriptLauncher = _SubprocessScriptLauncher
set_num_threads = _set_num_threads_if_needed


def use_launcher(strategy: Strategy, launcher: ScriptLauncher) -> None:
    """Put a launcher in the place of a strategy's own."""
    strategy._launcher = launcher


def cluster_environment(trainer: Trainer) -> object:
    """Return the cluster environment, which strategies of one device do not have."""
    return trainer._accelerator_connector.cluster_environment


def synchronises_batch_norm(strategy: Strategy) -> bool:
    """Return whether a Trainer was given ``sync_batchnorm``."""
    return getattr(strategy, "_layer_sync", None) is not None
