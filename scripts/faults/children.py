"""Runs of the command line in processes of their own, which can be harmed at a chosen moment."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tl import MultiTaskModule, TransferModule
from tl.callbacks import AtomicCheckpointIO
from tl.cli import main as tl_main

Prepare = Callable[[], None]
Act = Callable[[str], int | None]


@dataclass
class End:
    """How a run ended.

    Args:
        code: Exit code; minus the signal's number if one killed it; ``None`` if it hung.
        said: What it printed.
        steps: The optimizer step before each of its training batches.
        saved: Steps of the checkpoints that it completed.
        acted: Whether it was harmed.
    """

    code: int | None = None
    said: str = ""
    steps: list[int] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    acted: bool = False


def run(
    arguments: list[str], prepare: Prepare | None = None, act: Act | None = None, limit: float = 60
) -> End:
    """Run a command in a fork of this process.

    Args:
        arguments: What follows ``python -m tl.cli``.
        prepare: Called in the child first, for harm that comes from inside.
        act: Told ``step`` at each training batch, ``save`` before and ``saved`` after each
            checkpoint; the number of a signal that it returns is sent to the child.
        limit: Seconds after which it hangs.
    """
    events, tell = os.pipe()
    output = os.memfd_create("output")
    child = os.fork()
    if child == 0:
        os.setsid()
        for number in (1, 2):
            os.dup2(output, number)
        _become(arguments, prepare, tell)
    os.close(tell)
    try:
        end = _watch(child, events, act, time.monotonic() + limit)
        os.lseek(output, 0, os.SEEK_SET)
        with os.fdopen(output, encoding="utf-8", errors="replace") as file:
            end.said = file.read()
        return end
    finally:
        os.close(events)
        # its loaders' workers notice only after seconds that they are alone
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


def _become(arguments: list[str], prepare: Prepare | None, tell: int) -> NoReturn:
    """Be the run: report each step and checkpoint, and leave with the command's exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    code = 0
    try:
        report_events(tell)
        if prepare is not None:
            prepare()
        code = tl_main(arguments)
    except BaseException:  # noqa: BLE001 - the table counts it
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def report_events(tell: int) -> None:
    """Write a line for each training step and checkpoint."""

    def said(word: str, step: int) -> None:
        os.write(tell, f"{word} {step}\n".encode())

    for kind in (TransferModule, MultiTaskModule):

        def step(
            self: Any,  # noqa: ANN401 - one module or the other
            *given: Any,  # noqa: ANN401 - Lightning's hook
            original: Callable[..., Any] = kind.training_step,
        ) -> Any:  # noqa: ANN401
            said("step", self.global_step)
            return original(self, *given)

        kind.training_step = step  # type: ignore[assignment, method-assign]

    def save(
        self: AtomicCheckpointIO,
        checkpoint: dict[str, Any],
        *given: Any,  # noqa: ANN401 - Lightning's method
        **more: Any,  # noqa: ANN401
    ) -> None:
        said("save", checkpoint["global_step"])
        original_save(self, checkpoint, *given, **more)

    def write(
        self: AtomicCheckpointIO,
        checkpoint: dict[str, Any],
        path: str,
        *given: Any,  # noqa: ANN401 - perhaps in the thread that writes
    ) -> None:
        before = inode(path)
        original_write(self, checkpoint, path, *given)
        if inode(path) != before:  # a failure may be kept for later
            said("saved", checkpoint["global_step"])

    original_save, original_write = AtomicCheckpointIO.save_checkpoint, AtomicCheckpointIO.write
    AtomicCheckpointIO.save_checkpoint = save  # type: ignore[method-assign]
    AtomicCheckpointIO.write = write  # type: ignore[assignment, method-assign]


def inode(path: str) -> int:
    """Number of a file, which changes when another one takes its place; 0 without one."""
    return os.stat(path).st_ino if os.path.exists(path) else 0  # noqa: PTH110, PTH116


def _watch(child: int, events: int, act: Act | None, deadline: float) -> End:
    end = End()
    rest = b""
    running = True
    while running:
        done, status = os.waitpid(child, os.WNOHANG)
        running = not done
        if done:
            end.code = os.waitstatus_to_exitcode(status)
        elif time.monotonic() > deadline:
            return end
        while select.select([events], [], [], 0.01 if running else 0)[0]:
            found = os.read(events, 65536)
            if not found:
                time.sleep(0.01)
                break
            *lines, rest = (rest + found).split(b"\n")
            for line in lines:
                word, _, step = line.decode().partition(" ")
                {"step": end.steps, "saved": end.saved}.get(word, []).append(int(step))
                number = act(word) if act is not None and running else None
                if number is not None:
                    end.acted = True
                    os.kill(child, number)
    return end


# Harm from inside


def in_save(number: int, harm: Prepare) -> Prepare:
    """Do something at the beginning of the n-th checkpoint that is written."""

    def prepare() -> None:
        count = 0
        original = AtomicCheckpointIO.save_checkpoint

        def save(self: AtomicCheckpointIO, *given: Any, **more: Any) -> None:  # noqa: ANN401
            nonlocal count
            count += 1
            if count == number:
                harm()
            original(self, *given, **more)

        AtomicCheckpointIO.save_checkpoint = save  # type: ignore[method-assign]

    return prepare


def die(*_: Any, **__: Any) -> NoReturn:  # noqa: ANN401 - in the place of any function
    """Kill this process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def die_before(name: str) -> Prepare:
    """Die when a function of `os` is called."""
    return lambda: setattr(os, name, die)


def die_after(name: str) -> Prepare:
    """Die when a function of `os` has done its work."""

    def prepare() -> None:
        original = getattr(os, name)

        def both(*given: Any, **more: Any) -> None:  # noqa: ANN401
            original(*given, **more)
            die()

        setattr(os, name, both)

    return prepare


def die_in_write(size: int) -> Prepare:
    """Let the kernel end this process in the write that passes so many bytes of a file."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        limit_files(size)()

    return prepare


def limit_files(size: int) -> Prepare:
    """Refuse to write beyond so many bytes of a file."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fill_disk(folder: Path, room: int) -> Prepare:
    """Fill a disk but for some bytes."""

    def prepare() -> None:
        ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        os.posix_fallocate(ballast, 0, max(1, free - room))
        os.close(ballast)

    return prepare


def small_shared_memory() -> Prepare | None:
    """Give this process a ``/dev/shm`` of 64 kB that no other sees; nothing if not allowed."""
    mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm"
    tried = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, check=False)  # noqa: S603, S607
    if tried.returncode:
        return None

    def prepare() -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(0x20000):  # CLONE_NEWNS
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)  # noqa: S607
        subprocess.run(mount.split(), check=True)  # noqa: S603

    return prepare
