"""Checkpoint files that are complete or absent, and verified on every read."""

from __future__ import annotations

import fcntl
import io
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import read_checkpoint
from tl.checkpoints.hashes import seal
from tl.checkpoints.safe_weights import checksum_of, to_safetensors


@dataclass
class Write:
    """A checkpoint write whose caller decides what a failure means.

    Attributes:
        weights: Also write the weights, as safetensors.
        failed: Why the checkpoint could not be written; the earlier file is unchanged.
        weights_failed: Why the weights could not be written after the checkpoint was.
    """

    weights: bool = False
    failed: OSError | None = None
    weights_failed: OSError | None = None


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint beside its final name, flush it to the disk, then rename it.

    Lightning's class writes to the temporary folder and moves the file. If that is another file
    system, a full disk or a kill leaves a truncated file under the final name. Here the earlier
    file stays until the new one is complete. The file carries its own checksum, which is verified
    on every read, and no code from it runs.

    The file is assembled in memory first, so saving takes as much memory as its size.

    Args:
        on_write_error: What a run does when a checkpoint cannot be written, as on a full disk.
            ``stop`` ends it with an error; ``warn`` warns, continues, and retries when the next one
            is due; if the last one is missing at the end, that is an error. Either way the earlier
            file is unchanged.
        safetensors: Also write the weights of the best checkpoint, as ``best.safetensors``, for
            other programs and for ``init_from``.
    """

    def __init__(
        self, on_write_error: Literal["stop", "warn"] = "stop", safetensors: bool = True
    ) -> None:
        if on_write_error not in ("stop", "warn"):
            raise ValueError(f"`on_write_error` must be stop or warn, got {on_write_error!r}.")
        self.on_write_error = on_write_error
        self.safetensors = safetensors
        self.configuration: Mapping[str, Any] | None = None
        self._write: Write | None = None
        self._read: tuple[str, dict[str, Any]] | None = None

    @contextmanager
    def deciding(self, *, weights: bool) -> Iterator[Write]:
        """Record errors of the checkpoint saved in this context instead of raising them.

        Only the first process writes, and must not fail while the others wait for it.

        Args:
            weights: Also write the weights, if `safetensors` is on.
        """
        self._write = Write(weights=weights and self.safetensors)
        try:
            yield self._write
        finally:
            self._write = None

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What to save.
            path: Its final name; remote addresses go to Lightning's class.
            storage_options: Not
                supported, as in Lightning's class.

        Raises:
            OSError: If it cannot be written, naming the final path.
        """
        if self.configuration is not None:
            record = {**checkpoint.get("tl", {}), "configuration": dict(self.configuration)}
            checkpoint = {**checkpoint, "tl": record}
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # into memory first: torch hides a failed write behind its own error
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            with buffer.getbuffer() as archive:
                write_whole(Path(path), [archive, seal(archive)])
        except OSError as error:
            if self._write is None:
                raise
            self._write.failed = error
            return
        del buffer
        if self._write is not None and self._write.weights:
            try:
                write_whole(weights_beside(path), [to_safetensors(checkpoint)])
            except OSError as error:
                self._write.weights_failed = error

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
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - Lightning's signature
        weights_only: bool | None = None,
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


def write_whole(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write a file completely or not at all; flush its content before renaming it.

    Args:
        path: Its final name.
        parts: Its content, piece by piece.

    Raises:
        OSError: If it cannot be written, naming the final path. The earlier file is unchanged, and
            no temporary file remains.
    """
    # unique, because other processes may save to the same folder
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # without a folder there is no file
            beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes killed while writing a checkpoint.

    Files of running processes are locked, and stay; so do unrelated files, because the user may
    have chosen the folder.

    Args:
        folder: A folder of checkpoints.
    """
    left = [*folder.glob(".*.ckpt*.tmp"), *folder.glob(".*.safetensors*.tmp")]
    for path in left:
        with suppress(OSError), path.open("r+b") as file:  # needed for locks on NFS
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
