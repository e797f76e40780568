"""What is measured beside the rounds: ends of epochs, files before the start, a step's profile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.speed.epochs import PARTS, EpochEnds, StepProfile
from scripts.speed.files import files
from scripts.speed.runs import framework

Arguments = Callable[[Path, int], list[str]]
_WARM = 4


def beside(arguments: Arguments, epochs: int, steps: int, profiled: int, images: int) -> Any:  # noqa: ANN401 - plain types
    """Measure all three.

    Args:
        arguments: From a folder and a number of epochs, what the framework's run is told.
        epochs: Epochs of the first.
        steps: Of each of them.
        profiled: Steps to profile.
        images: JPEG files of the second.
    """
    ends, profiler = EpochEnds(), StepProfile(_WARM, profiled)
    length = "--data.init_args.epoch_length="
    with tempfile.TemporaryDirectory() as folder:
        framework(ends, [*arguments(Path(folder), epochs), f"{length}{steps}"])
        more = f"{length}{_WARM + profiled + 1}"
        framework(profiler, [*arguments(Path(folder), 1), more])
    found = {"steps": steps, **ends.found()}
    return {"epoch_end": found, "files": files(images, 3), "profile": profiler.found}


def as_markdown(found: Any) -> list[str]:  # noqa: ANN401 - of `beside`
    """Return the tables.

    Args:
        found: What `beside` has measured.
    """
    end, files_, step = found["epoch_end"], found["files"], found["profile"]
    lines = ["", f"| between epochs of {end['steps']} steps | s | of an epoch |"]
    lines += ["| --- | --- | --- |"]
    rows = [(part, end["parts"][part]) for part in PARTS]
    rows += [("all", sum(end["parts"].values()))]
    lines += [f"| {part} | {s:.3f} | {s / end['epoch']:.1%} |" for part, s in rows]
    lines += [f"| all, median epoch | | {end['median']:.1%} |"]
    lines += ["", "| JPEG files | us a file |", "| --- | --- |"]
    lines += [f"| {name} | {value:,.0f} |" for name, value in files_.items()]
    lines += ["", "| a step, profiled | ms | of the step |", "| --- | --- | --- |"]
    names = ("kernels", "operators", "launches", "python")
    rows = [("all", step["step"]), *((name, step[name]) for name in names)]
    rows += step["longest"].items()
    return [*lines, *(f"| {name} | {1000 * s:.2f} | {s / step['step']:.1%} |" for name, s in rows)]
