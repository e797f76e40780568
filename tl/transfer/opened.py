"""A source's checkpoint that several readers share: its file is read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tl.checkpoints.files import read_hashed, weights_file


class OpenedSource:
    """A source's checkpoint, read when somebody first asks and kept until it is closed.

    Backbone, heads and penalties of a run all read the same source. A copy, such as that in
    another process, reads the file again.

    Args:
        path: The checkpoint, its address, or a folder of Hugging Face.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.content: tuple[Path, dict[str, Any], str] | None = None

    def read(self) -> tuple[Path, dict[str, Any], str]:
        """Return the file, what it holds, and its SHA-256.

        Raises:
            CheckpointError: If it cannot be read; the next call tries again.
        """
        if self.content is None:
            file = weights_file(self.path)
            self.content = (file, *read_hashed(file))
        return self.content

    def close(self) -> None:
        """Give the memory back; who asks later reads the file again."""
        self.content = None

    def __str__(self) -> str:
        """Return the path as it was given."""
        return str(self.path)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the content out of copies."""
        return {**self.__dict__, "content": None}


Source = str | Path | OpenedSource


def opened(source: Source) -> OpenedSource:
    """Return a source that can be read: an opened one itself, or that of a path."""
    return source if isinstance(source, OpenedSource) else OpenedSource(source)
