"""What only a GPU can show: steps replayed from CUDA graphs, and the whole recipe to its end."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripts.speed.runs import CONFIG, Rounds, framework
from tl.cli import main

Arguments = Callable[[Path, int], list[str]]
_KINDS = {
    "eager": [],
    "eager, captured": ["--model.init_args.cuda_graph=true"],
    "compiled backbone": ["--model.init_args.compile=true"],
    "compiled, captured": ["--model.init_args.compile=true", "--model.init_args.cuda_graph=true"],
}


def captured(arguments: Arguments, steps: int, rounds: int) -> dict[str, float | None]:
    """Measure a step as it is, from a CUDA graph, compiled, and both, in alternating order.

    Args:
        arguments: From a folder and a number of epochs, what the framework's run is told.
        steps: Steps of an epoch that are timed, after one to warm up.
        rounds: Epochs of each of two runs of a kind, after one to warm up.

    Returns:
        Median seconds of a step by kind; ``None`` if no step was captured that should have been.
    """
    times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    replayed = dict.fromkeys(_KINDS, 0)
    for kind in [*_KINDS, *reversed(_KINDS)]:
        clock = Rounds(_nothing, _nothing)
        with tempfile.TemporaryDirectory() as folder:
            given = [*arguments(Path(folder), rounds + 1), *_KINDS[kind]]
            framework(clock, [*given, f"--data.init_args.epoch_length={steps + 1}"])
        times[kind] += clock.steps[1:]
        replayed[kind] += clock.replayed
    return {
        kind: statistics.median(each) if replayed[kind] or "captured" not in kind else None
        for kind, each in times.items()
    }


def whole(options: Sequence[str]) -> dict[str, Any]:
    """Run ``fit`` and ``test`` with the shipped configuration to its end.

    Args:
        options: What the run is told beside it.

    Returns:
        ``seconds`` of ``fit`` from the command to its end, ``epochs``, and the ``test`` scores.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        if main(["fit", f"--config={CONFIG}", *options, f"--log_dir={folder}"]):
            raise SystemExit("The whole run failed.")
        seconds = time.perf_counter() - start
        run = Path(folder, "multitask", "version_0")
        if main(["test", str(run)]):
            raise SystemExit("The test of the whole run failed.")
        found = json.loads((run / "results.json").read_text(encoding="utf-8"))
    scores = {n: v for n, v in found["metrics"].items() if n.startswith("test/")}
    return {"seconds": seconds, "epochs": found["epochs"], "test": scores}


def as_markdown(steps: dict[str, float | None], images: int, run: dict[str, Any]) -> list[str]:
    """Return the tables.

    Args:
        steps: From `captured`.
        images: Images of a step.
        run: From `whole`.
    """
    lines = ["", "| step | images/s |", "| --- | --- |"]
    for kind, seconds in steps.items():
        said = "no step was captured" if seconds is None else f"{images / seconds:,.0f}"
        lines.append(f"| {kind} | {said} |")
    lines += ["", f"| {run['epochs']} epochs to the end, {run['seconds']:.0f} s | |"]
    lines += ["| --- | --- |"]
    return [*lines, *(f"| {name} | {value:.4f} |" for name, value in run["test"].items())]


def _nothing(*given: Any) -> None:  # noqa: ANN401 - the number of the round, module, data
    del given
