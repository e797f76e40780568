"""Trials: harm a run, give the same command again until it is complete, compare the end."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.faults.checkpoints import content, equal, newest
from scripts.faults.children import Act, End, Prepare, run

Scenario = tuple[str, ...]
# what a command says of its course; all other lines say what stopped it
COURSE = (
    *("run folder", "best checkpoint", "dashboards", "starting from scratch", "data", "model"),
    *("resuming from", "skipped", "nothing is left", "GradNorm", "PCGrad", "LPFT"),
)


@dataclass
class Row:
    """A line of the table."""

    fault: str
    tried: int = 0
    survived: int = 0
    identical: int = 0
    lost: int = 0

    def __str__(self) -> str:
        """Return it in Markdown."""
        counts = (self.tried, self.survived, self.identical, self.lost)
        return f"| {self.fault} | {' | '.join(map(str, counts))} |"

    @property
    def stands(self) -> bool:
        """Whether there were trials and every one went well."""
        well = self.tried == self.survived == self.identical
        return self.tried > 0 and well and not self.lost


@dataclass
class Harm:
    """What is done to a run.

    Args:
        prepare: Done in its process at the start.
        act: Told its events; returns a signal to send.
        ends: The exit code that it then has.
        says: It must say so in one line, ``tl: ...``.
        after: Done when it has ended.
    """

    prepare: Prepare | None = None
    act: Act | None = None
    ends: int = -signal.SIGKILL
    says: bool = False
    after: Callable[[], None] = lambda: None


@dataclass
class Bench:
    """Where and how the trials are made.

    Args:
        work: Folder for all runs.
        smoke: Try a few only.
        rng: Draws the faults.
        step: Called when a trial is done.
        failures: What went wrong, with the run's output.
    """

    work: Path
    smoke: bool
    rng: random.Random = field(default_factory=random.Random)
    step: Callable[[], None] = lambda: None
    failures: list[str] = field(default_factory=list)
    _whole: dict[Scenario, tuple[dict[str, Any], End]] = field(default_factory=dict)
    _folders: Iterator[int] = field(default_factory=itertools.count)

    def number(self, usual: int, smoke: int) -> int:
        """Return how many trials to make."""
        return smoke if self.smoke else usual

    def folder(self) -> Path:
        """Name a folder of runs that is not there yet."""
        return self.work / f"trial_{next(self._folders)}"

    def whole(self, scenario: Scenario) -> tuple[dict[str, Any], End]:
        """Run it undisturbed, once: its last checkpoint, and what happened."""
        if scenario not in self._whole:
            log = self.folder()
            end = run(command(scenario, log))
            if end.code != 0:
                raise RuntimeError(f"{' '.join(scenario)} ends with {end.code}: {end.said}")
            self._whole[scenario] = content(newest(log)), end
        return self._whole[scenario]

    def trials(
        self,
        row: Row,
        scenario: Scenario,
        log: Path,
        harms: Iterable[Harm] = (),
        *,
        done: int = 0,
        floor: int = 0,
    ) -> None:
        """Give the command, with each harm and then without, until it is complete, and count.

        Args:
            row: Where to count.
            scenario: What to run.
            log: Folder of its runs; removed if all is well.
            harms: What is done to it, one after the other.
            done: Faults that it has suffered already.
            floor: Step in an intact checkpoint.
        """
        state, _ = self.whole(scenario)
        lost = 0
        wrong: list[str] = []
        said = ""
        for harm in itertools.chain(harms, [Harm(ends=0)]):
            end = run(command(scenario, log), harm.prepare, harm.act)
            harm.after()
            said += "" if wrong else f"$ {' '.join(command(scenario, log))}\n{end.said}\n"
            lost += bool(end.steps) and end.steps[0] < floor
            floor = max([floor, *end.saved])
            # a loader's worker may notice in its own way that its parent was killed
            if "Traceback" in end.said and (end.code or 0) >= 0:
                wrong.append("a traceback")
            if end.code == 0:
                break  # complete, perhaps before the harm was done
            done += 1
            self.step()
            if end.code != harm.ends:
                wrong.append(f"exit code {end.code}, expected {harm.ends}")
                break
            if harm.says and len(errors_of(end.said)) != 1:
                wrong.append(f"{len(errors_of(end.said))} lines that say why")
        last = newest(log)
        same = last is not None and equal(content(last), state)
        row.tried += done
        row.survived += 0 if wrong else done
        row.identical += done if same else 0
        row.lost += lost
        if same and not lost and not wrong:
            shutil.rmtree(log)
            return
        wrong += [] if same else ["the end differs"]
        wrong += ["steps were lost"] if lost else []
        what = f"{row.fault}, {' '.join(scenario)}, {log}: {', '.join(wrong)}"
        self.failures.append(f"{what}\n{said[-3000:]}")


def command(scenario: Scenario, log: Path) -> list[str]:
    """What a user types, the first time and again."""
    return ["fit", *scenario, f"--log_dir={log}", "--resume=auto"]


def errors_of(said: str) -> list[str]:
    """The lines of a command that say what went wrong or stopped it."""
    lines = [line for line in said.splitlines() if line.startswith("tl: ")]
    return [line for line in lines if not line.removeprefix("tl: ").startswith(COURSE)]
