"""Run one of Lightning's verbs, and end with its exit code."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from pathlib import Path
from threading import Event

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from tl.callbacks import SaveOnSignal
from tl.callbacks.surroundings import callbacks_of
from tl.cli.command import TlCLI
from tl.cli.configuration import write_enums_as_text
from tl.cli.messages import USAGE_ERROR, exception_line
from tl.cli.own_code import show_own
from tl.cli.own_configuration import with_own_configuration
from tl.reading import bound_aliases
from tl.runs.choosing import forget_choice
from tl.runs.folders import is_first_process
from tl.runs.ranks import end_with_parent, fail, leave
from tl.runs.resume import RunCompleteError
from tl.signals import StoppedBySignal, stop_on_signals

FAILURE = 1
_OURS = Path(__file__).parents[1]
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


# advertising, hardware that is not there, and what the lines of the run say too
_KNOWN = (
    *("litlogger", "TPU available: False", "to estimate number of stepping batches"),
    "`Trainer.fit` stopped: `max_epochs=",
)


def quiet() -> None:
    """Silence warnings about what neither the user nor we can change; ours are lines of the run."""
    warnings.formatwarning = _as_line
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # it is fault-tolerant: the sampler resumes at the next step
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before")
    # `main(args)` may be called from Python too
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
    # without one, an error follows
    warnings.filterwarnings("ignore", message=".*this model can only resume from a checkpoint")
    # an evaluation saves no checkpoints
    warnings.filterwarnings("ignore", message="The dirpath has changed from")
    # the new folder holds the other logger's files; the CSV logger deletes only its own
    warnings.filterwarnings("ignore", message="Experiment logs directory .* is not empty")
    # reference networks and frozen stages are in evaluation mode
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_is_news)


_place_and_line = warnings.formatwarning  # Lightning's


def _as_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Write a warning of ours as a line for the user, others with their place in the code."""
    if not Path(filename).is_relative_to(_OURS):
        return _place_and_line(message, category, filename, lineno, line)
    return f"tl: {str(message).removeprefix('tl: ')}\n"


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a line of Lightning's log tells the user something."""
    return not any(part in record.getMessage() for part in _KNOWN)


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


def run(arguments: list[str]) -> TlCLI:
    """Run one of Lightning's subcommands and exit with its code; see `tl.cli.main`.

    Returns:
        What ran it.
    """
    done = end_with_parent()
    quiet()
    stop_on_signals()
    # kept outside the constructor, which runs the subcommand, so that a failure can clean up
    cli = TlCLI.__new__(TlCLI)
    try:
        write_enums_as_text()
        bound_aliases()
        TlCLI.__init__(cli, with_own_configuration(arguments))
        _leave_process_group(cli.trainer, done)
    except StoppedBySignal as stopped:
        cli.drop_empty_folder()
        SaveOnSignal.tell(stopped)
        if stopped.checkpoint is None:  # at once: the other processes may be anywhere
            leave(128 + stopped.number, getattr(cli, "trainer", None))
        _leave_process_group(cli.trainer, done)
        sys.exit(128 + stopped.number)
    except RunCompleteError as complete:
        if is_first_process():
            print(f"tl: {complete}")  # noqa: T201
    except Exception as error:  # noqa: BLE001 - a run ends in one line, whatever went wrong
        cli.drop_empty_folder()
        _end(error, getattr(cli, "trainer", None))
    finally:
        forget_choice()
    return cli


def _end(error: Exception, trainer: Trainer | None) -> None:
    """Report an error and exit with its code."""
    if os.environ.get("TL_DEBUG") == "1":
        if trainer is None or trainer.world_size == 1:
            raise error
        traceback.print_exception(error)
    else:
        show_own(error)
    mistake = _is_mistake(error, trainer)
    fail(exception_line(error), USAGE_ERROR if mistake else FAILURE, trainer)


def _is_mistake(error: Exception, trainer: Trainer | None) -> bool:
    """Return whether the command, the configuration or the data cause an error."""
    if trainer is None:
        return True
    begun = any(one.begun for one in callbacks_of(trainer, SaveOnSignal))
    of_another_model = "Error(s) in loading state_dict" in str(error)
    return not begun and (isinstance(error, _MISTAKES) or of_another_model)
