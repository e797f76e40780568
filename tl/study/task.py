"""What a worker of a study is told."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tl.study.schema import Study
from tl.study.study_file import read_study

COMMAND = (sys.executable, "-m", "tl.cli")


@dataclass(frozen=True)
class Task:
    """What a worker is told.

    Args:
        file: The study file.
        settings: Changes of it from the command line.
        out: Folder of the study.
        storage: Where processes agree on who runs what.
        command: The command line of runs.
    """

    file: str
    settings: tuple[str, ...]
    out: str
    storage: str | None = None
    command: tuple[str, ...] = COMMAND

    def study(self) -> Study:
        """Read the study file."""
        return read_study(Path(self.file), self.settings)

    @classmethod
    def from_text(cls, text: str) -> Task:
        """Read what :meth:`as_text` wrote."""
        given = json.loads(text)
        lists = {name: tuple(given[name]) for name in ("settings", "command")}
        return cls(**{**given, **lists})

    def as_text(self) -> str:
        """Write it as an argument of a worker's command."""
        return json.dumps(asdict(self))
