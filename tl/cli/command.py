"""Lightning's subcommands with run folders, dashboards, safe checkpoints and one-line errors."""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any, Literal, cast

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from tl import __version__
from tl.callbacks import (
    AtomicCheckpointIO,
    Dashboard,
    NoProfiler,
    PredictionWriter,
    RunCheckpoint,
    RunProgressBar,
    RunResults,
    SameCheckpoint,
    SaveOnSignal,
    Throughput,
    leave_out_empty_hooks,
)
from tl.callbacks.checkpoint import best_of
from tl.cli.configuration import check_trainer, write_enums_as_text
from tl.cli.devices import check_devices
from tl.cli.messages import USAGE_ERROR, exception_line
from tl.cli.nulls import check_nulls, imported
from tl.cli.own_configuration import with_own_configuration
from tl.cli.parser import OneLineParser
from tl.cli.verbs import VERBS
from tl.hardware import choose_precision, reuse_memory
from tl.modules.direction import follow_metrics
from tl.modules.source_start import weights_follow
from tl.private.jsonargparse import list_verb
from tl.reading import bound_aliases, shown
from tl.runs.folders import (
    is_first_process,
    latest_checkpoint,
    link_data_to_model,
    new_run_folder,
    run_folder_of,
    versions_folder,
)
from tl.runs.logs import RunCSV, RunFolder, RunTensorBoard
from tl.runs.ranks import check_rank, end_with_parent, fail, leave, use_our_launcher
from tl.runs.resume import (
    Resumed,
    RunCompleteError,
    forget_choice,
    named,
    newest,
    trained_nothing,
)
from tl.signals import StoppedBySignal, stop_on_signals

FAILURE = 1
# errors in settings, paths and data are of these types
_MISTAKES = (
    ValueError,
    TypeError,
    ImportError,
    MisconfigurationException,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def _task(given: Any) -> object:  # noqa: ANN401 - as the parser has it
    """Build a task from its class path; the model builds one given by fields."""
    path = given.get("class_path") if isinstance(given, Namespace | Mapping) else None
    if path is None:
        return given.as_dict() if isinstance(given, Namespace) else given
    options = given.get("init_args") or {}
    kind = cast("Any", imported(path))
    return kind(**(options.as_dict() if isinstance(options, Namespace) else options))


class TlCLI(LightningCLI):
    """Lightning's command line with run folders, dashboards and safe checkpoints."""

    run_folder: Path | None = None
    new_board: Path | None = None  # of an evaluation, in the run's folder
    resumed: Resumed | None = None  # for the Trainer to load
    found_by_itself = False
    _tasks: dict[str, object]  # set by the user, by argument of the model
    _takes: dict[str, bool]  # whether the model has that argument
    trained_on: Mapping[str, Any] | None = None  # the data of the checkpoint to evaluate

    def __init__(self, args: list[str] | None = None) -> None:
        """Run a subcommand.

        Args:
            args: Arguments in place of ``sys.argv``.
        """
        self._tasks, self._takes = {}, {}
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,  # the modules take the optimizer as an argument
            seed_everything_default=0,
            trainer_defaults={"callbacks": [LearningRateMonitor(logging_interval="step")]},
            parser_kwargs={"description": "Transfer and multi-task learning."},
            args=args,
        )

    def init_parser(self, **kwargs: Any) -> OneLineParser:  # noqa: ANN401
        """Build the parser with one-line errors."""
        kwargs.setdefault("dump_header", [f"lightning.pytorch, tl {__version__}"])
        kwargs.setdefault("prog", "tl")
        kwargs.setdefault("allow_abbrev", False)  # abbreviated options are errors
        parser = OneLineParser(**kwargs)
        parser.add_argument(
            *("-c", "--config"),
            action="config",
            help="Configuration file; later ones override it; `name+:` appends to a list.",
        )
        return parser

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:  # noqa: ANN401
        """List our verbs in ``--help``; `main` runs them without this parser."""
        super()._add_subcommands(parser, **kwargs)
        for name, verb in VERBS.items():
            list_verb(parser, name, verb.help)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our arguments and callbacks, and link the model's tasks to the data."""
        parser.add_argument(
            "--name",
            type=str,
            default="run",
            help="Name of the run; its versions are saved in a folder of this name.",
        )
        parser.add_argument(
            "--log_dir", type=str, default="lightning_logs", help="Folder for runs."
        )
        parser.add_argument(
            "--resume",
            type=Literal["auto"] | None,
            default=None,
            help="auto: fit resumes from the newest valid checkpoint of this --name.",
        )
        parser.add_class_arguments(AtomicCheckpointIO, "checkpoint_files")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(RunCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(Dashboard, "dashboard")
        parser.add_lightning_class_args(Throughput, "throughput")
        parser.add_lightning_class_args(RunResults, "results")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(SaveOnSignal, "save_on_signal")
        parser.set_defaults(
            {
                "checkpoint.monitor": "auto",
                "checkpoint.filename": "best",
                # a separate callback: `save_last` follows the best one and skips worse epochs
                "last_checkpoint.filename": "last",
            }
        )
        link_data_to_model(parser, self._tell_data, self._given_tasks)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parse, and set the direction of callbacks and schedules from their metric."""
        super().parse_arguments(parser, args)
        follow_metrics(self.config, parser.parse_args(args, defaults=False))

    def _parse_ckpt_path(self) -> None:
        """Let the command line override the hyper-parameters in a checkpoint."""

    # Before instantiation

    @property
    def chosen(self) -> Any:  # noqa: ANN401 - jsonargparse's namespace of the subcommand
        """Return the configuration of the subcommand."""
        return self.config[str(self.subcommand)]

    def before_instantiate_classes(self) -> None:
        """Resolve what depends on the machine or other settings, so that config.yaml records it."""
        config = self.chosen
        check_trainer(config.trainer, str(self.subcommand))
        check_devices(config.trainer.accelerator, config.trainer.strategy)
        check_nulls(config.get("data"), "data")
        check_nulls(config.get("model"), "model")
        chosen = choose_precision(config.trainer.precision, config.trainer.accelerator)
        config.trainer.precision = chosen
        options = config.get("data.init_args") or {}
        if (
            "seed" in options
            and options["seed"] is None
            and isinstance(config.seed_everything, int)
        ):
            config["data.init_args.seed"] = int(config.seed_everything)
        for key in ("task", "tasks"):
            given = config.get(f"model.init_args.{key}")
            if given and hasattr(imported(config.data.class_path), key):
                raise ValueError(
                    f"`model.init_args.{key}` follows from the data; remove it, and choose the "
                    "data's `targets`."
                )
            self._tasks[key] = given
            model = cast("Any", imported(config.model.class_path))
            self._takes[key] = key in inspect.signature(model).parameters
        config.weights_only = True  # no code from a checkpoint may run
        folder = versions_folder(config.log_dir, config.name)
        if config.ckpt_path is None and self.subcommand != "fit":
            config.ckpt_path = str(latest_checkpoint(folder))
            rank_zero_info(f"tl: using {shown(config.ckpt_path)}, from the latest run.")
        if self.subcommand == "predict":
            config.return_predictions = False  # predictions are written as they are computed
        # config.yaml describes the run, not how it was started
        resume, config.resume = config.resume, None
        here = self.described()
        if self.subcommand == "fit" and resume is not None:
            own = {config.get(f"{key}.dirpath") for key in ("checkpoint", "last_checkpoint")}
            others = [Path(path) for path in own if path]
            self.found_by_itself = True
            self.resumed = newest(folder, here, others=others, ckpt_path=config.ckpt_path)
        elif config.ckpt_path is not None:
            self.resumed = named(config.ckpt_path, here, trains=self.subcommand == "fit")
            if self.subcommand != "fit":
                self.trained_on = self.resumed.content.get("tl", {}).get("data")

    def described(self) -> dict[str, Any]:
        """Return the configuration in plain types, as stored in checkpoints."""
        parser = self._parser(self.subcommand)
        found = yaml.safe_load(parser.dump(self.chosen, skip_unset=False))
        return {key: found[key] for key in ("seed_everything", "data", "model", "trainer")}

    def _given_tasks(self, key: str) -> object:
        """Return the user's tasks, for data that declare none."""
        given = self._tasks.get(key)
        if self._takes[key] and not given:
            example = "{class_path: tl.tasks.Classification, init_args: {name: a, num_classes: 2}}"
            raise ValueError(
                f"The data module declares no tasks; set `model.init_args.{key}`"
                f", such as {f'[{example}]' if key == 'tasks' else example}."
            )
        return [_task(each) for each in given] if isinstance(given, list) else _task(given)

    def _tell_data(self, data: object) -> None:
        """Adopt the data settings of the checkpoint to evaluate."""
        record, adopt = self.trained_on, getattr(data, "adopt", None)
        if record and callable(adopt):
            self.trained_on = None  # once
            adopt(record)

    # The run folder

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401
        """Build the trainer with TensorBoard and CSV logs in one new run folder."""
        config = self.chosen
        if config.trainer.enable_checkpointing is False:
            keys = self._parser(self.subcommand).callback_keys
            keys[:] = [key for key in keys if key not in ("checkpoint", "last_checkpoint")]
        plugins = self._get(self.config_init, "trainer").plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            files = cast("AtomicCheckpointIO", self._get(self.config_init, "checkpoint_files"))
            files.configuration = self.described()
            if self.resumed is not None:
                files.hand_over(self.resumed.path, self.resumed.content)
                self.resumed = self.resumed.without_tensors()
            kwargs["plugins"] = [*plugins, files]
        given = self._get(self.config_init, "trainer")
        if not config.trainer.fast_dev_run:
            kwargs["logger"] = self._loggers(given.logger)
        if given.profiler is None:
            kwargs["profiler"] = NoProfiler()
        callbacks = [*(given.callbacks or [])]
        wants_bar = config.trainer.enable_progress_bar is not False
        if wants_bar and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            kwargs["callbacks"] = [*callbacks, RunProgressBar()]
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        if self.found_by_itself:
            trainer.callbacks.insert(0, SameCheckpoint(self._path_to_load()))  # type: ignore[attr-defined]
        leave_out_empty_hooks(trainer.callbacks)  # type: ignore[attr-defined]
        check_rank(trainer)
        use_our_launcher(trainer)
        if trainer.strategy.root_device.type == "cpu":
            reuse_memory()
        return trainer

    def instantiate_classes(self) -> None:
        """Build everything; a user's loggers use the run's name and version.

        A model that loads a checkpoint needs no source.
        """
        before = self._settle_loggers()
        with weights_follow() if self.resumed is not None else nullcontext():
            super().instantiate_classes()
        for one, was in before:  # config.yaml can start another run
            one.update(was)

    def _settle_loggers(self) -> list[tuple[Namespace, Namespace]]:
        """Give a user's loggers the run's folder, name and version unless set.

        Returns:
            Their settings, and the earlier values.
        """
        config = self.chosen
        given = config.trainer.logger
        given = [] if isinstance(given, bool | None) else given
        loggers = [
            (one.init_args, cast("Any", imported(one.class_path)))
            for one in (given if isinstance(given, list) else [given])
            if one.get("init_args") is not None
        ]
        before = [(one, one.clone()) for one, _ in loggers]
        own, runs = self._evaluated_run(), Path(config.log_dir)
        if loggers and own is None and not config.trainer.fast_dev_run:
            self.run_folder = new_run_folder(runs / config.name)
        for one, kind in loggers:
            takes = inspect.signature(kind).parameters
            # for some, the version is the id of a run on a server
            numbered = one.get("version", 0) is None and "int" in str(takes["version"].annotation)
            if "save_dir" in takes and one.get("save_dir") in (None, takes["save_dir"].default):
                inside = own / str(self.subcommand) if own else self.run_folder
                one.save_dir = str(runs if numbered and not own else inside or runs)
            if numbered and self.run_folder is not None:
                one.version = int(self.run_folder.name.removeprefix("version_"))
                if one.get("name") == "lightning_logs":  # Lightning's default
                    one.name = config.name
        return before

    def _evaluated_run(self) -> Path | None:
        """Return the folder of the evaluated run, if it belongs to one."""
        evaluates = self.subcommand != "fit" and self.resumed is not None
        return run_folder_of(self.resumed.path) if evaluates and self.resumed else None

    def _loggers(self, given: Any) -> list[Logger]:  # noqa: ANN401 - as the Trainer takes it
        """Return the loggers for a new run folder, or for that of the evaluated run.

        Args:
            given: The user's setting: none, or loggers replacing ours.
        """
        config = self.chosen
        own = self._evaluated_run()
        if own is not None:
            # its configuration and metrics table belong to training
            self.save_config_callback = None
        folder = own or self.run_folder or new_run_folder(Path(config.log_dir) / config.name)
        if own is None:
            self.run_folder = folder
        if given not in (None, True):
            others = given if isinstance(given, list) else [given] if given else []
            return [RunFolder(folder), *others]
        if own is not None:
            # TensorBoard drops a folder's curves if the steps restart in a later file
            verb = str(self.subcommand)
            if not (own / verb).exists():
                self.new_board = own / verb
            board = RunTensorBoard(own.parent, "", own.name, default_hp_metric=False, sub_dir=verb)
            return [RunFolder(own), *([board] if verb != "predict" else [])]
        version = int(folder.name.removeprefix("version_"))
        return [
            RunTensorBoard(config.log_dir, config.name, version, default_hp_metric=False),
            RunCSV(config.log_dir, config.name, version),
        ]

    def _path_to_load(self) -> str | None:
        return str(self.resumed.path) if self.resumed is not None else None

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Pass the checkpoint found to the Trainer; config.yaml keeps what was requested."""
        given: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        return {**given, "ckpt_path": self._path_to_load()}

    @rank_zero_only
    def drop_empty_run_folder(self) -> None:
        """Remove the folder of a run that ended before its first step without saving.

        Also remove the curves of an unfinished evaluation.
        """
        if self.new_board is not None:
            shutil.rmtree(self.new_board, ignore_errors=True)
        trainer = getattr(self, "trainer", None)
        start = self.resumed.content.get("global_step") if self.resumed is not None else 0
        begun = trainer is not None and trainer.global_step not in (0, start)
        # a signal before the first step leaves a checkpoint too, whose path was reported
        if self.run_folder is None or begun or any(self.run_folder.rglob("*.ckpt")):
            return
        shutil.rmtree(self.run_folder, ignore_errors=True)

    def after_fit(self) -> None:
        """Report where everything is, and what could not be written.

        Raises:
            OSError: If the final checkpoint is missing.
        """
        if trained_nothing(self.trainer.global_step, self.run_folder, self.resumed):
            return
        self._say_where()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RunCheckpoint) and callback.unsaved is not None:
                raise callback.unsaved

    @rank_zero_only
    def _say_where(self) -> None:
        best = best_of(self.trainer)
        lines = [f"tl: run folder {shown(self.run_folder)}"] if self.run_folder else []
        if best is not None and best.best_model_path:
            score = best.best_model_score
            value = f" ({best.monitor} {float(score):.4f})" if score is not None else ""
            lines.append(f"tl: best checkpoint {shown(best.best_model_path)}{value}")
        if self.run_folder:
            lines.append(f"tl: dashboards: tensorboard --logdir {shown(self.chosen.log_dir)}")
        print("\n".join(lines))  # noqa: T201


def _quiet() -> None:
    """Silence warnings about what neither the user nor we can change."""
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # it is fault-tolerant: the sampler resumes at the next step
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
    # `main(args)` may be called from Python too
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
    # an evaluation saves no checkpoints
    warnings.filterwarnings("ignore", message="The dirpath has changed from")
    # the new folder holds the other logger's files; the CSV logger deletes only its own
    warnings.filterwarnings("ignore", message="Experiment logs directory .* is not empty")
    # reference networks and frozen stages are in evaluation mode
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(lambda record: "litlogger" not in record.getMessage())


def _leave_process_group(trainer: Trainer, done: Event) -> None:
    """End the process group before the interpreter shuts down.

    Otherwise gloo's threads outlive it and occasionally abort a finished run. After a failure the
    group is left alone, because its threads may wait for a dead rank. Processes wait for each
    other, because all end with the first.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        trainer.strategy.barrier("the end")
        done.set()
        torch.distributed.destroy_process_group()


def run(arguments: list[str]) -> None:
    """Run one of Lightning's subcommands and exit with its code; see `tl.cli.main`.

    Args:
        arguments: The subcommand and its options.
    """
    done = end_with_parent()
    _quiet()
    stop_on_signals()
    # kept outside the constructor, which runs the subcommand, so that a failure can clean up
    cli = TlCLI.__new__(TlCLI)
    try:
        write_enums_as_text()
        bound_aliases()
        TlCLI.__init__(cli, with_own_configuration(arguments))
        _leave_process_group(cli.trainer, done)
    except StoppedBySignal as stopped:
        cli.drop_empty_run_folder()
        SaveOnSignal.tell(stopped)
        if stopped.checkpoint is None:  # at once: the other processes may be anywhere
            leave(128 + stopped.number, getattr(cli, "trainer", None))
        _leave_process_group(cli.trainer, done)
        sys.exit(128 + stopped.number)
    except RunCompleteError as complete:
        if is_first_process():
            print(f"tl: {complete}")  # noqa: T201
    except Exception as error:  # noqa: BLE001 - one line for any error
        cli.drop_empty_run_folder()
        _end(error, getattr(cli, "trainer", None))
    finally:
        forget_choice()


def _end(error: Exception, trainer: Trainer | None) -> None:
    """Report an error and exit with its code."""
    if os.environ.get("TL_DEBUG") == "1":
        if trainer is None or trainer.world_size == 1:
            raise error
        traceback.print_exception(error)
    mistake = _is_mistake(error, trainer)
    fail(exception_line(error), USAGE_ERROR if mistake else FAILURE, trainer)


def _is_mistake(error: Exception, trainer: Trainer | None) -> bool:
    """Return whether the command, the configuration or the data cause an error."""
    if trainer is None:
        return True
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    begun = any(one.begun for one in callbacks if isinstance(one, SaveOnSignal))
    of_another_model = "Error(s) in loading state_dict" in str(error)
    return not begun and (isinstance(error, _MISTAKES) or of_another_model)
