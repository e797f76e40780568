"""Lightning's subcommands with run folders, dashboards, safe checkpoints and one-line errors."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info

from tl import __version__
from tl.callbacks import (
    AtomicCheckpointIO,
    Dashboard,
    NoProfiler,
    OracleSelection,
    PredictionWriter,
    RunCheckpoint,
    RunResults,
    SameCheckpoint,
    SaveOnSignal,
    Throughput,
    leave_out_empty_hooks,
)
from tl.callbacks.surroundings import callbacks_of
from tl.cli.configuration import check_trainer
from tl.cli.devices import check_devices
from tl.cli.given_tasks import GivenTasks
from tl.cli.nulls import check_nulls
from tl.cli.output import Output
from tl.cli.parser import OneLineParser
from tl.cli.printing import printing
from tl.cli.run_arguments import add_run_arguments
from tl.cli.shifts import AskedShifts, add_shift_arguments, take_shifts
from tl.cli.verbs import VERBS
from tl.hardware import choose_precision, reuse_memory
from tl.modules.base import SharedBackboneModule
from tl.modules.direction import follow_metrics
from tl.modules.source_start import weights_follow
from tl.private.jsonargparse import list_verb
from tl.reading import shown
from tl.runs.choosing import Resumed
from tl.runs.folders import (
    latest_checkpoint,
    link_data_to_model,
    requeue_folder,
    versions_folder,
)
from tl.runs.ranks import check_rank, use_our_launcher
from tl.runs.resume import named, newest, trained_nothing


class TlCLI(LightningCLI):
    """Lightning's command line with run folders, dashboards and safe checkpoints."""

    output: Output  # from before anything is built
    resumed: Resumed | None = None  # for the Trainer to load
    requeued: Path | None = None  # folder of what Lightning saves to requeue a SLURM job
    found_by_itself = False
    shifts: AskedShifts | None = None  # to test under
    given_tasks: GivenTasks
    trained_on: Mapping[str, Any] | None = None  # the data of the checkpoint to evaluate

    def __init__(self, args: list[str] | None = None) -> None:
        """Run a subcommand.

        Args:
            args: Arguments in place of ``sys.argv``.
        """
        self.given_tasks = GivenTasks()
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
        for name in ("validate", "test"):
            self._parser(name).set_defaults(verbose=False)  # `tl` prints a table of its own
        for name, verb in VERBS.items():
            list_verb(parser, name, verb.help)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our arguments and callbacks, and link the model's tasks to the data."""
        add_run_arguments(parser)
        add_shift_arguments(parser)
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
        link_data_to_model(parser, self._tell_data, self.given_tasks.of)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parse, and set the direction of callbacks and schedules from their metric."""
        super().parse_arguments(parser, args)
        self.complete(parser.parse_args(args, defaults=False))

    def complete(self, given: Any) -> None:  # noqa: ANN401 - as the parser has it
        """Set what follows from other settings."""
        follow_metrics(self.config, given)

    def _parse_ckpt_path(self) -> None:
        """Let the command line override the hyper-parameters in a checkpoint."""

    # Before instantiation

    @property
    def chosen(self) -> Any:  # noqa: ANN401 - jsonargparse's namespace of the subcommand
        """Return the configuration of the subcommand."""
        return self.config[str(self.subcommand)]

    def settle(self) -> None:
        """Check the configuration, and resolve what depends on the machine or other settings."""
        config = self.chosen
        self.shifts = take_shifts(config, str(self.subcommand))
        check_trainer(config.trainer, str(self.subcommand))
        check_devices(config.trainer.accelerator, config.trainer.strategy, config.trainer.devices)
        check_nulls(config.get("data"), "data")
        check_nulls(config.get("model"), "model")
        trainer, options = config.trainer, config.get("data.init_args") or {}
        trainer.precision = choose_precision(trainer.precision, trainer.accelerator)
        if options.get("seed", ...) is None and isinstance(config.seed_everything, int):
            config["data.init_args.seed"] = int(config.seed_everything)
        self.given_tasks.take(config)

    def before_instantiate_classes(self) -> None:
        """Resolve what a run depends on, so that config.yaml records it."""
        self.settle()
        config = self.chosen
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
        if self.subcommand == "fit" and config.trainer.default_root_dir is None:
            # before loggers receive the number of this version: the job's next run has another
            self.requeued = requeue_folder(folder, here)
        if self.subcommand == "fit" and resume is not None:
            own = {config.get(f"{key}.dirpath") for key in ("checkpoint", "last_checkpoint")}
            others = [Path(path) for path in (*own, self.requeued) if path]
            self.found_by_itself = True
            self.resumed = newest(folder, here, others=others, ckpt_path=config.ckpt_path)
        elif config.ckpt_path is not None:
            self.resumed = named(config.ckpt_path, here, trains=self.subcommand == "fit")
            if self.subcommand != "fit":
                self.trained_on = self.resumed.content.get("tl", {}).get("data")
        path = self.resumed.path if self.resumed is not None else None
        self.output = Output(config, str(self.subcommand), path)
        if self.output.evaluated is not None:
            self.save_config_callback = None  # the folder's config.yaml belongs to training

    def described(self) -> dict[str, Any]:
        """Return the configuration in plain types, as stored in checkpoints."""
        parser = self._parser(self.subcommand)
        found = yaml.safe_load(parser.dump(self.chosen, skip_unset=False))
        return {key: found[key] for key in ("seed_everything", "data", "model", "trainer")}

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
            kwargs["logger"] = self.output.loggers(given.logger)
        if given.profiler is None:
            kwargs["profiler"] = NoProfiler()
        if self.requeued is not None:
            kwargs["default_root_dir"] = self.requeued
        ours = isinstance(self.model, SharedBackboneModule)
        kwargs |= printing(
            config.trainer, given.callbacks or [], trains=self.subcommand == "fit", ours=ours
        )
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        if self.found_by_itself:
            trainer.callbacks.insert(0, SameCheckpoint(self._path_to_load()))  # type: ignore[attr-defined]
        if self.subcommand == "fit" and getattr(self.datamodule, "withheld_sources", ()):
            trainer.callbacks.insert(0, OracleSelection())  # type: ignore[attr-defined]
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
        before = self.output.settle_loggers()
        with weights_follow() if self.resumed is not None else nullcontext():
            super().instantiate_classes()
        for one, was in before:  # config.yaml can start another run
            one.update(was)

    def _path_to_load(self) -> str | None:
        return str(self.resumed.path) if self.resumed is not None else None

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Pass the checkpoint found to the Trainer; config.yaml keeps what was requested."""
        given: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        return {**given, "ckpt_path": self._path_to_load()}

    def drop_empty_folder(self) -> None:
        """Remove the folder of a run that ended before its first step, and of new curves."""
        if hasattr(self, "output"):
            start = self.resumed.content.get("global_step") if self.resumed is not None else 0
            self.output.drop_if_empty(getattr(self, "trainer", None), start)

    def before_test(self) -> None:
        """Refuse tests under shifts that cannot be, before anything is tested."""
        if self.shifts is not None:
            self.shifts.check(self.trainer, self.datamodule)

    def after_test(self) -> None:
        """Print the scores; test under the shifts that were asked for, and write their table."""
        self.output.report_scores(self.trainer)
        if self.shifts is not None:
            folder = self.output.evaluated or self.output.new or Path(self.chosen.log_dir)
            self.shifts.run(self.trainer, self.model, self.datamodule, folder)

    def after_validate(self) -> None:
        """Print the scores."""
        self.output.report_scores(self.trainer)

    def after_fit(self) -> None:
        """Report where everything is, and what could not be written.

        Raises:
            OSError: If the final checkpoint is missing.
        """
        if trained_nothing(self.trainer.global_step, self.output.new, self.resumed):
            return
        self.output.report(self.trainer)
        for callback in callbacks_of(self.trainer, RunCheckpoint):
            if callback.unsaved is not None:
                raise callback.unsaved
