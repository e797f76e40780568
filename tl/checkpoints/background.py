"""Write checkpoints beside training: a snapshot first, then one thread that writes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# A step may need more memory than the one before it: the copy takes little of what is free.
_ROOM = 4


@dataclass
class Write:
    """A checkpoint write whose caller decides what a failure means.

    Attributes:
        path: The checkpoint; ``None`` for whichever is saved.
        weights: Also write the weights, as safetensors.
        background: Write a copy while training continues; ask for errors after :meth:`wait`.
        after: Earlier writes that this one builds on: it fails if one of them did.
        failed: Why the checkpoint could not be written; the earlier file is unchanged.
        weights_failed: Why the weights could not be written after the checkpoint was.
    """

    path: str | None = None
    weights: bool = False
    background: bool = False
    after: Sequence[Write] = ()
    failed: OSError | None = None
    weights_failed: OSError | None = None
    job: Future[None] | None = None

    def done(self) -> bool:
        """Return whether the write is over."""
        return self.job is None or self.job.done()

    def wait(self) -> None:
        """Wait until the write is over; raise what is not an error of the disk."""
        if self.job is not None:
            self.job.result()


@dataclass(frozen=True)
class Snapshot:
    """A copy of a checkpoint that training cannot change.

    Attributes:
        content: The copy; tensors stay on their device, and those that share memory still do.
        copied: By GPU, the event after which the copy there is complete.
    """

    content: dict[str, Any]
    copied: Mapping[torch.device, torch.cuda.Event]

    def write(self, write: Callable[[dict[str, Any]], None]) -> None:
        """Call a function with the content, on streams beside those that train.

        Args:
            write: What reads the tensors; it must be done with them when it returns.
        """
        with ExitStack() as streams:
            for device, event in self.copied.items():
                stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
                stream.wait_event(event)
                streams.enter_context(torch.cuda.stream(stream))
            write(self.content)


def snapshot(checkpoint: dict[str, Any]) -> Snapshot | None:
    """Copy a checkpoint, each tensor on its own device.

    Returns:
        ``None`` if a device has little memory left or is neither CPU nor GPU, or if something in
        the checkpoint cannot be copied: it must then be written before training continues.
    """
    sizes: dict[torch.device, int] = {}
    for tensor in _tensors(checkpoint):
        size = tensor.untyped_storage().nbytes()
        sizes[tensor.device] = sizes.get(tensor.device, 0) + size
    gpus = [device for device in sizes if device.type == "cuda"]
    if any(device.type not in ("cpu", "cuda") for device in sizes):
        return None
    if any(torch.cuda.mem_get_info(device)[0] < _ROOM * sizes[device] for device in gpus):
        return None
    try:
        content = copy.deepcopy(checkpoint)
    except Exception:  # noqa: BLE001 - a callback may save anything, and torch copy less than it saves
        return None
    return Snapshot(content, {device: _now(device) for device in gpus})


def _now(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


class BackgroundWriter:
    """One thread that writes checkpoints in the order in which they were saved.

    Lightning's ``AsyncCheckpointIO`` raises a failure of one save from a later one, so that no
    caller can roll back; removes the earlier file before the new one is complete; and copies
    tensors that share memory one by one. Here each save has a job that its caller waits for.

    The interpreter waits for the thread when it exits.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._jobs: list[Future[None]] = []

    def submit(
        self, checkpoint: dict[str, Any], write: Callable[[dict[str, Any]], None]
    ) -> Future[None] | None:
        """Copy a checkpoint, and write the copy in the thread.

        Args:
            checkpoint: As dumped by the Trainer; it may change as soon as this returns.
            write: What writes it.

        Returns:
            The job; ``None`` if the checkpoint cannot be copied, and nothing was begun.
        """
        copied = snapshot(checkpoint)
        if copied is None:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="tl-checkpoints")
        job = self._pool.submit(copied.write, write)
        self._jobs = [*(each for each in self._jobs if not each.done()), job]
        return job

    def wait(self) -> None:
        """Wait for all jobs; their errors are their callers'."""
        wait(self._jobs)

    def close(self) -> None:
        """Wait for all jobs and end the thread; a later job starts another."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self._pool, self._jobs = None, []
