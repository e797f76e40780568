"""Where a verb writes: a new run folder, or the folder of the run that it evaluates."""

from __future__ import annotations

import inspect
import os
import shutil
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from tl.callbacks.checkpoint import best_of
from tl.cli.nulls import imported
from tl.reading import shown
from tl.report.closing import closing_table, next_commands
from tl.runs.folders import new_run_folder, run_of_checkpoint
from tl.runs.logs import RunCSV, RunFolder, RunTensorBoard
from tl.runs.services import asked_services, service_loggers

_NAMED = 8  # pictures
_WIDTH = 100  # of a line


def check_writable(run: Path) -> None:
    """Refuse the folder of a run that the results of an evaluation could not be written to.

    Raises:
        ValueError: If it cannot be written to.
    """
    if not os.access(run, os.W_OK):
        raise ValueError(
            f"{shown(run)} cannot be written to, and the results of an evaluation go there; "
            "evaluate a copy of the folder, or `tl.load(RUN).evaluate(DATA)` in Python."
        )


class Output:
    """Loggers and folder of one command.

    Args:
        config: The configuration of the verb.
        verb: One of Lightning's.
        checkpoint: The checkpoint to load.

    Raises:
        ValueError: If the run to validate or test lies in a folder that cannot be written to.

    Attributes:
        new: Folder of the new run; ``None`` before there is one, and in an evaluation.
        evaluated: Folder of the run that is evaluated, if the checkpoint belongs to one.
    """

    def __init__(self, config: Any, verb: str, checkpoint: Path | None) -> None:  # noqa: ANN401 - jsonargparse's namespace
        self.config, self.verb = config, verb
        self.new: Path | None = None
        evaluates = verb != "fit" and checkpoint is not None
        self.evaluated = run_of_checkpoint(checkpoint) if evaluates and checkpoint else None
        if self.evaluated is not None and verb != "predict":
            check_writable(self.evaluated)
        self._made: list[Path] = []  # folders above that of the new run, innermost first
        self._board: Path | None = None  # new curves of an evaluation
        self._services = asked_services(config.get("log") or "")

    def settle_loggers(self) -> list[tuple[Namespace, Namespace]]:
        """Give a user's loggers the run's folder, name and version unless set.

        Returns:
            Their settings, and the earlier values.
        """
        config = self.config
        given = config.trainer.logger
        given = [] if isinstance(given, bool | None) else given
        loggers = [
            (one.init_args, cast("Any", imported(one.class_path)))
            for one in (given if isinstance(given, list) else [given])
            if one.get("init_args") is not None
        ]
        before = [(one, one.clone()) for one, _ in loggers]
        own, runs = self.evaluated, Path(config.log_dir)
        if loggers and own is None and not config.trainer.fast_dev_run:
            self._make_folder()
        for one, kind in loggers:
            takes = inspect.signature(kind).parameters
            # for some, the version is the id of a run on a server
            numbered = one.get("version", 0) is None and "int" in str(takes["version"].annotation)
            if "save_dir" in takes and one.get("save_dir") in (None, takes["save_dir"].default):
                inside = own / self.verb if own else self.new
                one.save_dir = str(runs if numbered and not own else inside or runs)
            if numbered and self.new is not None:
                one.version = int(self.new.name.removeprefix("version_"))
                if one.get("name") == "lightning_logs":  # Lightning's default
                    one.name = config.name
        return before

    def _make_folder(self) -> None:
        versions = Path(self.config.log_dir) / self.config.name
        self._made = [folder for folder in (versions, *versions.parents) if not folder.exists()]
        self.new = new_run_folder(versions)

    def loggers(self, given: Any) -> list[Logger]:  # noqa: ANN401 - as the Trainer takes it
        """Return the loggers for a new run folder, or for that of the evaluated run.

        Args:
            given: The user's setting: none, or loggers replacing ours.
        """
        config, own = self.config, self.evaluated
        if own is None and self.new is None:
            self._make_folder()
        folder = cast("Path", own or self.new)
        services = service_loggers(self._services, folder, Path(config.log_dir))
        if given not in (None, True):
            others = given if isinstance(given, list) else [given] if given else []
            return [RunFolder(folder), *others, *services]
        if own is not None:
            # TensorBoard drops a folder's curves if the steps restart in a later file
            if not (own / self.verb).exists():
                self._board = own / self.verb
            board = RunTensorBoard(
                own.parent, "", own.name, default_hp_metric=False, sub_dir=self.verb
            )
            return [RunFolder(own), *([board, *services] if self.verb != "predict" else [])]
        version = int(folder.name.removeprefix("version_"))
        return [
            RunTensorBoard(config.log_dir, config.name, version, default_hp_metric=False),
            RunCSV(config.log_dir, config.name, version),
            *services,
        ]

    @rank_zero_only
    def drop_if_empty(self, trainer: Trainer | None, start: int | None) -> None:
        """Remove the folder of a run that ended before its first step without saving.

        Also remove the curves of an unfinished evaluation.

        Args:
            trainer: What ran, if it was built.
            start: Step of the checkpoint that was resumed; 0 without one.
        """
        if self._board is not None:
            shutil.rmtree(self._board, ignore_errors=True)
        begun = trainer is not None and trainer.global_step not in (0, start)
        # a signal before the first step leaves a checkpoint too, whose path was reported
        if self.new is not None and not begun and not any(self.new.rglob("*.ckpt")):
            shutil.rmtree(self.new, ignore_errors=True)
            with suppress(OSError):  # another run lies there by now
                for folder in self._made:
                    folder.rmdir()

    @rank_zero_only
    def report(self, trainer: Trainer) -> None:
        """Print what the run reached, where it is, and what can follow."""
        best = best_of(trainer)
        lines = closing_table(self.new) if self.new else []
        if self.new:
            self._plot(self.new)
            lines += [f"tl: run folder {shown(self.new)}", *pictures_named(self.new)]
        path = best.best_model_path if best is not None else ""
        if best is not None and path:
            score = best.best_model_score
            value = f" ({best.monitor} {float(score):.4f})" if score is not None else ""
            lines.append(f"tl: best checkpoint {shown(path)}{value}")
        elif best is not None and best.monitor and self.new:
            lines.append("tl: no best checkpoint, as none was saved after a validation")
        if self.new:
            lines.append(f"tl: dashboards: tensorboard --logdir {shown(self.config.log_dir)}")
            last = next(iter(self.new.rglob("last.ckpt")), "")
            lines += next_commands(self.new, path or str(last))
        print("\n".join(lines), flush=True)  # noqa: T201

    @staticmethod
    def _plot(run: Path) -> None:
        """Draw the run; a plot that cannot be written does not fail a finished run."""
        from tl.report.run_plots import write_plots  # noqa: PLC0415 - matplotlib, at the end only

        try:
            write_plots(run)
        except OSError as error:
            rank_zero_warn(f"tl: no plots in {shown(run)}: {error.strerror or error}.")

    @rank_zero_only
    def report_scores(self, trainer: Trainer) -> None:
        """Print the scores of an evaluation, beside those of training."""
        folder = self.evaluated or self.new
        if folder is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        lines = [*closing_table(folder), *_without_targets(trainer)]
        lines.append(f"tl: scores in {shown(folder / 'results.json')}")
        if drawn := pictures_named(folder / self.verb):
            lines += [f"tl: folder {shown(folder / self.verb)}", *drawn]
        print("\n".join(lines), flush=True)  # noqa: T201


def _without_targets(trainer: Trainer) -> list[str]:
    """Name the tasks that have no score, because no sample that was evaluated has a target."""
    split = "test" if trainer.state.fn == "test" else "val"
    module = trainer.lightning_module
    counts = getattr(module, "samples", {}).get(split, {})
    without = [
        name
        for name in getattr(module, "tasks", {})
        if not any(count for key, count in counts.items() if key.partition("/")[0] == name)
    ]
    if not without:
        return []
    return [f"tl: no {split} sample has a target for {', '.join(without)}, so they have no score."]


def pictures_named(folder: Path) -> list[str]:
    """Return lines that name the pictures in a folder, below what is said of it."""
    names = sorted(path.name for path in folder.glob("*.png") if path.is_file())
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    said = ", ".join([*names[:_NAMED], *more])
    return textwrap.wrap(
        *(said, _WIDTH), initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
