"""Several processes of one run: when one fails, all end, and its error is the last line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from tl.private.lightning import ScriptLauncher, set_num_threads, use_launcher
from tl.signals import SIGNALS, CommandEnded

PARENT = "TL_PARENT"
# an error in all processes is reported by the first, which ends the others within this time
PATIENCE = 3.0
_LOST = 20.0
_POLL = 0.2
_ENDING = threading.Event()  # set before this process kills the others
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")  # read by Lightning
_SECONDARY = (
    "gloo",
    "nccl",
    "connection closed by peer",
    "connection reset by peer",
    "connection refused",
    "broken pipe",
    "socket timeout",
    "tcpstore",
    "store->get",
    "remote process exited",
)


class RankLauncher(ScriptLauncher):
    """Lightning's launcher, with an observer that reports why the run ends.

    Lightning's observer polls every 5 seconds, kills everything including itself, and leaves as the
    last line the error of a process that only lost its connection.
    """

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - Lightning's signature
        trainer: Trainer | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Start and watch the other processes of this machine, and call a function."""
        del trainer
        self.cluster_environment.validate_settings(
            num_devices=self.num_processes, num_nodes=self.num_nodes
        )
        if not self.cluster_environment.creates_processes_externally:
            os.environ[PARENT] = str(os.getpid())
            self._call_children_scripts()
            threading.Thread(target=watch_children, args=(self.procs,), daemon=True).start()
        set_num_threads(num_processes=self.num_processes)
        return function(*args, **kwargs)


def use_our_launcher(trainer: Trainer) -> None:
    """Replace Lightning's launcher with ours, if it starts processes as scripts."""
    given = trainer.strategy.launcher
    if type(given) is ScriptLauncher:
        ours = RankLauncher(given.cluster_environment, given.num_processes, given.num_nodes)
        use_launcher(trainer.strategy, ours)


def check_rank(trainer: Trainer) -> None:
    """Refuse environment variables of a multi-process run in a single process.

    A process that believes it has a later rank writes nothing, and rank 0 waits for the others.

    Raises:
        ValueError: If they are set.
    """
    rank = getattr(rank_zero_only, "rank", 0)
    found = ", ".join(f"{name}={os.environ[name]}" for name in _RANKS if name in os.environ)
    if trainer.world_size == 1 and rank:
        raise ValueError(
            f"This run has one process, but the environment declares several "
            f"({found}). Unset these variables, or set `trainer.devices` and `trainer.num_nodes`."
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    by_hand = isinstance(environment, LightningEnvironment) and "LOCAL_RANK" in os.environ
    if trainer.world_size > 1 and by_hand and "MASTER_PORT" not in os.environ:
        raise ValueError(
            f"The environment declares that the {trainer.world_size} processes are started "
            f"elsewhere ({found}), but sets no MASTER_PORT. Unset these variables, or start with "
            "torchrun."
        )


def watch_children(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the run when a child process fails.

    Runs in a thread, because the main thread may be waiting for the failed process.
    """
    while True:
        codes = [child.poll() for child in children]
        if _ENDING.is_set() or all(code == 0 for code in codes):
            return
        for rank, code in enumerate(codes, 1):
            if not code:
                continue
            if code - 128 in SIGNALS:
                time.sleep(_LOST)  # by a signal: the first still has to report the checkpoint
            elif code < 0:
                name = signal.Signals(-code).name
                more = "; memory may have run out" if -code == signal.SIGKILL else ""
                say(f"rank {rank} was killed by {name}{more}. The run ends.")
            _end(code if code > 0 else 1, children)
        time.sleep(_POLL)


def end_with_parent() -> threading.Event:
    """End this process when its parent, rank 0, is gone.

    Returns:
        An event to set when all are done: from then on rank 0 may exit first.
    """
    done = threading.Event()
    parent = os.environ.get(PARENT)
    if parent is None or os.environ.get("LOCAL_RANK", "0") == "0":
        return done

    def watch() -> None:
        while os.getppid() == int(parent):
            if done.wait(_POLL):
                return
        if done.is_set():
            return
        if os.environ["LOCAL_RANK"] == "1":
            say("rank 0 exited without an error message; it may have been killed. The run ends.")
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return done


def fail(line: str, code: int, trainer: Trainer | None) -> NoReturn:
    """Report an error and end this process, and with it the run.

    Args:
        line: The error message.
        code: Exit code.
        trainer: The run's trainer, if it exists yet.
    """
    world = trainer.world_size if trainer is not None else 1
    if trainer is None or world == 1 or not _started(trainer):
        say(line)
        raise CommandEnded(line, code)
    if is_secondary(line):
        time.sleep(_LOST)  # the observer ends this process once it knows which one failed
        line = f"lost the connection to another process, whose error is the cause ({line})"
    elif trainer.global_rank:
        time.sleep(PATIENCE)
    say(f"rank {trainer.global_rank}: {line}")
    _end(code, getattr(trainer.strategy.launcher, "procs", ()))


def leave(code: int, trainer: Trainer | None) -> NoReturn:
    """End this process without waiting for others, which may be waiting for it."""
    if trainer is None or trainer.world_size == 1:
        sys.exit(code)
    _end(code, getattr(trainer.strategy.launcher, "procs", ()))


def is_secondary(line: str) -> bool:
    """Return whether an error means that a peer process is gone."""
    return any(part in line.lower() for part in _SECONDARY)


def say(line: str) -> None:
    """Write a line to standard error."""
    print(f"tl: {line}", file=sys.stderr, flush=True)  # noqa: T201


def _started(trainer: Trainer) -> bool:
    launcher = trainer.strategy.launcher
    external = getattr(launcher, "cluster_environment", None)
    external = bool(external and external.creates_processes_externally)
    return external or bool(getattr(launcher, "procs", None))


def _end(code: int, children: Sequence[subprocess.Popen[bytes]]) -> NoReturn:
    _ENDING.set()
    for child in children:
        if child.poll() is None:
            child.kill()  # it may hang in a collective
    for child in children:
        child.wait(timeout=10)
    sys.stdout.flush()
    sys.stderr.flush()
    # threads of the process group may wait for a dead rank
    cast("Callable[[int], NoReturn]", os._exit)(code)
