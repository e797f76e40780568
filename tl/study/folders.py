"""What the folder of a study's run tells: done, failed, or unfinished. It is the only truth."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tl.checkpoints.whole_files import write_json
from tl.reading import read_object, versions_in
from tl.report.finished_run import read_curves
from tl.report.results import read_configuration, read_results
from tl.study.points import Point

State = Literal["done", "failed", "pruned", "unfinished"]


@dataclass(frozen=True)
class RunFolders:
    """The folders of a study's runs, ``<out>/<stage>/<label>-<hash>``.

    Args:
        out: Folder of the study.
    """

    out: Path

    def of(self, point: Point) -> Path:
        """Return the folder that holds the versions of a run."""
        return self.out / point.name

    def state(self, point: Point) -> State:
        """Tell how far a run is."""
        folder = self.of(point)
        if not folder.is_dir():
            return "unfinished"
        if (folder / "failed.json").exists():
            return "failed"
        if self.is_trained(point) and (point.trial is not None or self._tested(point)):
            return "done"
        return "pruned" if (folder / "pruned.json").exists() else "unfinished"

    def is_trained(self, point: Point) -> bool:
        """Tell whether ``fit`` came to its end."""
        return self.results(point).get("steps") is not None

    def _tested(self, point: Point) -> bool:
        return any(name.startswith("test/") for name in self.results(point).get("metrics") or {})

    def version(self, point: Point) -> Path | None:
        """Return the newest version that holds results; a resumed run has several."""
        found = versions_in(self.of(point), "results.json")
        return found[-1] if found else None

    def results(self, point: Point) -> dict[str, Any]:
        """Return what ``results.json`` holds; empty where there is none, or a damaged one."""
        return self._read(point)[0]

    def damage(self, point: Point) -> str:
        """Say what is wrong with a run's results; empty where nothing is."""
        return self._read(point)[1]

    def _read(self, point: Point) -> tuple[dict[str, Any], str]:
        version = self.version(point)
        try:
            return {} if version is None else read_results(version / "results.json"), ""
        except ValueError as error:
            return {}, str(error)

    def configuration(self, point: Point) -> dict[str, Any]:
        """Return the configuration that the run has written; empty without, or if it is damaged."""
        version = self.version(point)
        try:
            return {} if version is None else read_configuration(version / "config.yaml")
        except ValueError:
            return {}

    def best(self, point: Point) -> Path:
        """Return the best checkpoint of a finished run.

        Raises:
            ValueError: If it names none, or it is gone.
        """
        version = self.version(point)
        best = self.results(point).get("best")
        if version is None or not isinstance(best, Mapping) or not best.get("checkpoint"):
            raise ValueError(f"{self.of(point)} has no best checkpoint; its run saves none.")
        path = Path(os.path.normpath(version / str(best["checkpoint"])))
        if not path.exists():
            raise ValueError(
                f"{version}/results.json names {best['checkpoint']} as the best checkpoint, and "
                "it is gone; delete the run's folder to train it again."
            )
        return path

    def failure(self, point: Point) -> str:
        """Return why a run failed."""
        return str(read_object(self.of(point) / "failed.json").get("error", "nothing was said"))

    def chosen(self, point: Point) -> dict[str, Any]:
        """Return the options that a search chose for a run; empty before."""
        found = read_object(self.of(point) / "point.json").get("chosen")
        return found if isinstance(found, dict) else {}

    def write(self, point: Point, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file in a run's folder, whole or not at all."""
        write_object(self.of(point) / name, content)

    def forget_failure(self, point: Point) -> None:
        """Let a failed run be tried again."""
        (self.of(point) / "failed.json").unlink(missing_ok=True)

    @contextmanager
    def locked(self, point: Point) -> Iterator[int | None]:
        """Hold a run's folder, so that no other process runs it.

        Yields:
            The lock's file descriptor; ``None`` if another process holds it.
        """
        folder = self.of(point)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)

    def silence(self, point: Point) -> float:
        """Return for how many seconds nobody has touched a run's lock."""
        try:
            return max(0.0, time.time() - (self.of(point) / "lock").stat().st_mtime)
        except OSError:
            return float("inf")

    def curve(self, point: Point, metric: str) -> list[tuple[int, float]]:
        """Read a metric over steps from a run's ``metrics.csv`` files."""
        found: dict[int, float] = {}
        for version in versions_in(self.of(point)):
            steps, values = read_curves(version / "metrics.csv").get(metric, ((), ()))
            found.update(zip(steps, values, strict=True))
        return sorted(found.items())


def write_object(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all."""
    write_json(path, content, default=str)
