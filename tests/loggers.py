"""A logger as those of services: a folder by default, and a version that is not a number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger


class FileLogger(Logger):
    """Writes a line for each call."""

    def __init__(self, save_dir: str = ".", version: str | None = None) -> None:
        super().__init__()
        self.file = Path(save_dir) / "lines.txt"
        self._version = version

    @property
    def name(self) -> str:
        """Nothing."""
        return ""

    @property
    def version(self) -> str | None:
        """The name of a run on a server."""
        return self._version

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a line."""
        with self.file.open("a") as file:
            file.write(f"{self._version} {step}\n")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Leave them out."""
