"""Checkpoint files that are whole or absent."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint beside its final name, flush it to the disk, then rename it.

    Lightning's own class writes to the temporary folder and moves the file: where that is another
    file system, a full disk or a kill leaves a truncated file under the final name. Here the
    earlier file stays until the new one is complete.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's signature
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What to save.
            path: Its final name; remote addresses are left to Lightning's class.
            storage_options: Not supported, as in Lightning's class.

        Raises:
            OSError: If it cannot be written, naming the final path.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        final = Path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        beside = final.with_name(f".{final.name}.tmp")
        # into memory first: torch hides a failed write to a file behind an error of its own
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            with beside.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(final)
            folder = os.open(final.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(final)) from error
        finally:
            beside.unlink(missing_ok=True)
