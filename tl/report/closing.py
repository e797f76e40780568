"""What a run ends with: a table of its tasks, and the commands that can follow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl.counting import counted
from tl.report.conditions import conditions_of_test
from tl.report.frame import aligned
from tl.report.results import read_results

_LOADER = "/dataloader_idx_"
_GIGABYTE = 1e9


def closing_table(run: Path) -> list[str]:
    """Return the lines that a run ends with, from its ``results.json``.

    A row per task: its deciding score in validation at the best epoch and at the last one, in a
    validation of the finished run, and in the test, if there were any. Below it the best epoch,
    time, images per second and memory, and what was unusual about the test or validation.

    Raises:
        ValueError: If the file is damaged.
    """
    results = read_results(run / "results.json")
    evaluated = results.get("evaluated") or {}
    validated = (evaluated.get("val") or {}).get("metrics") or {}
    last: Mapping[str, Any] = results.get("metrics") or validated
    best = results.get("best") or {}
    at_best: Mapping[str, Any] = best.get("metrics") or {}
    of_training = any(name.startswith("val/") for name in results.get("metrics") or {})
    columns = (at_best, last, validated if of_training else {})
    tasks: Mapping[str, Mapping[str, str]] = results.get("scores") or {}
    rows: list[Sequence[str]] = []
    deciding = {next(iter(scores), "loss") for scores in tasks.values()}
    if len(tasks) > 1 and len(deciding) == 1:
        rows += _rows("mean", deciding.pop(), columns)
    for task, scores in tasks.items():
        score = next(iter(scores), "loss")
        # with one task, metrics do not name it
        names = (f"{task}/{score}", score) if len(tasks) == 1 else (f"{task}/{score}",)
        rows += _rows(task, score, columns, names)
    if not rows:
        return []
    head = ["task", "score", "best val", "last val", "validated", "test"]
    return [*_table(head, rows), *_cost(results, best), *_conditions(results)]


def _rows(
    label: str,
    score: str,
    columns: tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]],
    names: Sequence[str] = (),
) -> list[Sequence[str]]:
    """Return a row for a task, or one for each of the loaders it was evaluated with."""
    at_best, last, validated = columns

    def found(values: Mapping[str, Any], split: str, end: str) -> str:
        known = (values.get(f"{split}/{name}{end}") for name in names or (score,))
        value = next((value for value in known if value is not None), None)
        return "" if value is None else f"{value:.4f}"

    ends = sorted({_LOADER + name.partition(_LOADER)[2] for name in last if _LOADER in name})
    rows = [
        (
            f"{label}{end.replace(_LOADER, ' ')}",
            score,
            *(found(at_best, "val", end), found(last, "val", end)),
            *(found(validated, "val", end), found(last, "test", end)),
        )
        for end in ("", *ends)
    ]
    return [row for row in rows if any(row[2:])]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns; those that are empty are left out."""
    full = [place for place in range(len(head)) if any(row[place] for row in rows)]
    lines = [[row[place] or "-" for place in full] for row in (head, *rows)]
    return aligned(lines, range(2, len(full)))  # after the names


def _cost(results: Mapping[str, Any], best: Mapping[str, Any]) -> list[str]:
    parts = []
    if epochs := results.get("epochs"):
        which = (
            f"best epoch {best['epoch']} of {epochs}"
            if "epoch" in best
            else counted(epochs, "epoch")
        )
        by = f" by {best['monitor']}" if "epoch" in best and best.get("monitor") else ""
        parts.append(f"{which}{by}")
    if (seconds := results.get("seconds")) is not None:
        parts.append(duration(seconds))
    if speed := results.get("images_per_second"):
        parts.append(f"{speed:,.0f} {samples_of(results)}/s")
    if share := results.get("mfu"):
        parts.append(f"{share:.0%} of the device's peak")
    if memory := results.get("peak_memory_bytes"):
        parts.append(f"{memory / _GIGABYTE:.1f} GB")
    return [", ".join(parts) + "."] if parts else []


def samples_of(results: Mapping[str, Any]) -> str:
    """Return what a run trained on, ``images`` or ``texts``, which a tokenizer tells."""
    sources = (results.get("data") or {}).values()
    texts = any(isinstance(source, Mapping) and source.get("tokenizer") for source in sources)
    return "texts" if texts else "images"


def _conditions(results: Mapping[str, Any]) -> list[str]:
    """Say what scores are of, if not of the best checkpoint on the run's own images."""
    lines = []
    for split, what in (("val", "validated"), ("test", "test")):
        found = conditions_of_test(results, split)
        if said := ", ".join(f"{name} {value}" for name, value in found.items()):
            lines.append(f"{what}: {said}.")
    return lines


def duration(seconds: float) -> str:
    """Return a time as ``12.3s``, ``2m05s`` or ``3h07m``."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"  # noqa: PLR2004


def next_commands(run: Path, checkpoint: str) -> list[str]:
    """Return the commands that can follow a run, to be typed.

    Args:
        run: The run's folder.
        checkpoint: Its best checkpoint, or the last; empty if there is none.
    """
    commands = [f"tl compare {_typed(run)} OTHER_RUN"]
    if checkpoint:
        commands.insert(0, f"tl test {_typed(run)}")
        commands.append(f"tl fit FOLDER --from {_typed(run)}")
    return ["next:", *(f"  {command}" for command in commands)]


def _typed(path: str | Path) -> str:
    """Return a path as it is typed here: relative where that is shorter."""
    path = Path(path)
    here = Path.cwd()
    inside = path.is_absolute() and path.is_relative_to(here)
    return shlex.quote(str(path.relative_to(here) if inside else path))
