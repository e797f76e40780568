"""Checkpoint files that are complete or absent, and verified on every read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from tl.checkpoints.background import BackgroundWriter, Write
from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import read_checkpoint
from tl.checkpoints.hashes import seal
from tl.checkpoints.safe_weights import checksum_of, to_safetensors
from tl.checkpoints.whole_files import write_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint beside its final name, flush it to the disk, then rename it.

    Lightning's class writes to the temporary folder and moves the file. If that is another file
    system, a full disk or a kill leaves a truncated file under the final name. Here the earlier
    file stays until the new one is complete. The file carries its own checksum, which is verified
    on every read, and no code from it runs.

    The file is assembled in memory first, so saving takes as much memory as its size. In the
    background it also takes a copy of the checkpoint, on the device of each tensor.

    Args:
        on_write_error: What a run does when a checkpoint cannot be written, as on a full disk.
            ``stop`` ends it with an error; ``warn`` warns, continues, and retries when the next one
            is due; if the last one is missing at the end, that is an error. Either way the earlier
            file is unchanged.
        safetensors: Also write the weights of the best checkpoint, as ``best.safetensors``, for
            other programs and for ``init_from``.
        background: Let a run's checkpoints be written by a thread while training continues, from a
            copy made at once. The next checkpoint, a signal and the end of training wait for it. A
            GPU with little free memory makes no copy; training then waits for the file.
    """

    def __init__(
        self,
        on_write_error: Literal["stop", "warn"] = "stop",
        safetensors: bool = True,
        background: bool = True,
    ) -> None:
        if on_write_error not in ("stop", "warn"):
            raise ValueError(f"`on_write_error` must be stop or warn, got {on_write_error!r}.")
        self.on_write_error = on_write_error
        self.safetensors = safetensors
        self.background = background
        self.configuration: Mapping[str, Any] | None = None
        self._write: Write | None = None
        self._writer = BackgroundWriter()
        self._read: tuple[str, dict[str, Any]] | None = None

    @contextmanager
    def deciding(
        self,
        *,
        weights: bool,
        path: str | Path | None = None,
        background: bool = False,
        after: Sequence[Write] = (),
    ) -> Iterator[Write]:
        """Record errors of the checkpoint saved in this context instead of raising them.

        Only the first process writes, and must not fail while the others wait for it.

        Args:
            weights: Also write the weights, if `safetensors` is on.
            path: The checkpoint. Another one saved meanwhile, by a handler of a signal, is written
                at once.
            background: Write it while training continues, if `background` is on.
            after: Writes without which this one must fail.
        """
        given = None if path is None else str(path)
        both = (weights and self.safetensors, background and self.background)
        self._write = Write(given, *both, after)
        try:
            yield self._write
        finally:
            self._write = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What to save.
            path: Its final name; remote addresses go to Lightning's class.
            storage_options: Not supported, as in Lightning's class.

        Raises:
            OSError: If it cannot be written, naming the final path.
        """
        if self.configuration is not None:
            record = {**checkpoint.get("tl", {}), "configuration": dict(self.configuration)}
            checkpoint = {**checkpoint, "tl": record}
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        write = self._write
        if write is not None and write.path not in (None, str(path)):
            write = None
        if write is not None and write.background:

            def later(content: dict[str, Any]) -> None:
                self.write(content, path, write)

            write.job = self._writer.submit(checkpoint, later)
            if write.job is not None:
                return
        self._writer.wait()  # in the order in which they were saved
        self.write(checkpoint, path, write)

    def write(
        self, checkpoint: dict[str, Any], path: str | Path, write: Write | None = None
    ) -> None:
        """Write a local checkpoint now, in whichever thread calls.

        Args:
            checkpoint: What to save.
            path: Its final name.
            write: Where errors of the disk are recorded; without it they are raised.

        Raises:
            OSError: If it cannot be written, naming the final path.
        """
        earlier = (each.failed for each in write.after) if write is not None else ()
        broken = next((error for error in earlier if error is not None), None)
        if write is not None and broken is not None:
            # what this one says of the best checkpoint so far is not true
            write.failed = OSError(broken.errno, broken.strerror, str(path))
            return
        # into memory first: torch hides a failed write behind its own error
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            with buffer.getbuffer() as archive:
                write_whole(Path(path), [archive, seal(archive)])
        except OSError as error:
            if write is None:
                raise
            write.failed = error
            return
        del buffer
        if write is not None and write.weights:
            try:
                write_whole(weights_beside(path), [to_safetensors(checkpoint)])
            except OSError as error:
                write.weights_failed = error

    def wait(self) -> None:
        """Wait until no checkpoint is being written; errors are recorded in each one's write."""
        self._writer.wait()

    def teardown(self) -> None:
        """End the thread that writes, when it is done; Lightning calls this after each run."""
        self._writer.close()

    def repair_weights(self, path: str | Path) -> bool:
        """Rewrite the safetensors file beside a checkpoint if it holds other weights.

        A process killed between the two writes leaves an older file.

        Args:
            path: A checkpoint; an unreadable one is ignored here.

        Returns:
            Whether the file was written.
        """
        beside = weights_beside(path)
        if not self.safetensors or not Path(path).exists():
            return False
        try:
            content = to_safetensors(read_checkpoint(path))
            if beside.exists() and checksum_of(beside.read_bytes()) == checksum_of(content):
                return False
            write_whole(beside, [content])
        except (CheckpointError, OSError):
            return False
        return True

    def load_checkpoint(
        self, path: str | Path, map_location: object = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read and verify a checkpoint on the CPU; no code from it runs.

        Args:
            path: The file, or its ``https://`` address; other remote addresses go to Lightning's
                class, with ``weights_only=True``.
            map_location: Ignored.
            weights_only: Ignored; always on.

        Raises:
            CheckpointError: If it is missing, damaged or unsafe.
        """
        self.wait()
        read, self._read = self._read, None
        if read is not None and read[0] == str(path):
            return read[1]
        if "://" in str(path) and not str(path).startswith("http"):
            return super().load_checkpoint(path, weights_only=True)
        return read_checkpoint(path)

    def hand_over(self, path: str | Path, content: dict[str, Any]) -> None:
        """Pass in the result of :func:`read_checkpoint`, which the next load then reuses."""
        self._read = (str(path), content)


def weights_beside(path: str | Path) -> Path:
    """Return the path of the safetensors file beside a checkpoint."""
    return Path(path).with_suffix(".safetensors")
