"""Delta_m of finished multi-task runs against finished single-task runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tl.report.delta_m import delta_m, delta_m_interval
from tl.report.intervals import Interval, mean_interval
from tl.report.tested import TestedRun, read_tested


@dataclass(frozen=True)
class AgainstSingle:
    """A multi-task method compared with single-task baselines, over seeds.

    Args:
        seeds: The seeds, ascending.
        reached: Test accuracies of the multi-task runs by task, one mapping per seed.
        alone: Test accuracies of the single-task runs.
    """

    seeds: Sequence[int | None]
    reached: Sequence[Mapping[str, float]]
    alone: Sequence[Mapping[str, float]]

    @property
    def delta_m(self) -> Interval:
        """Mean over the seeds with its 95 % interval, as a fraction."""
        return delta_m_interval(self.reached, self.alone)

    def table(self) -> str:
        """Return a row per task, and Delta_m, in percent, as Markdown."""
        lines = ["| task | alone, % | together, % |", "| --- | --- | --- |"]
        for task in self.alone[0]:
            pair = [mean_interval([v[task] for v in found]) for found in (self.alone, self.reached)]
            lines.append(f"| {task} | {pair[0].percent()} | {pair[1].percent()} |")
        change = self.delta_m
        mark = " **negative transfer**" if change.below_zero else ""
        each = zip(self.seeds, self.reached, self.alone, strict=True)
        by_seed = ", ".join(f"{seed}: {100 * delta_m(v, b):+.1f}" for seed, v, b in each)
        lines += ["", f"Delta_m {change.percent(signed=True)} %{mark} (by seed: {by_seed})"]
        return "\n".join(lines)


def against_single(
    runs: Iterable[str | Path], baselines: Mapping[str, Iterable[str | Path]]
) -> AgainstSingle:
    """Compare multi-task runs with a network per task, seed by seed.

    The runs are folders written by ``test``; their checkpoints were chosen on validation images.

    Args:
        runs: Folders of the multi-task runs, one per seed.
        baselines: Folders of the single-task runs by task, for the same seeds.

    Raises:
        ValueError: If a folder holds no test results, or results on a part of the images; if seeds,
            tasks, epochs or numbers of test samples do not match; or if a baseline was tested on
            different data.
    """
    together = _by_seed([read_tested(Path(folder)) for folder in runs], "the multi-task runs")
    reached: dict[int | None, dict[str, float]] = {seed: {} for seed in together}
    alone: dict[int | None, dict[str, float]] = {seed: {} for seed in together}
    for seed, run in together.items():
        for name, value in run.metrics.items():
            match name.split("/"):
                case ["test", task, "acc"]:
                    reached[seed][task] = value
    single: list[TestedRun] = []
    for task, folders in baselines.items():
        found = _by_seed([read_tested(Path(f)) for f in folders], f"the baselines of {task!r}")
        if set(found) != set(together):
            raise ValueError(
                f"The multi-task runs have the seeds {_listed(together)}, the baselines of "
                f"{task!r} {_listed(found)}; give the same ones."
            )
        for seed, run in found.items():
            _check_data(run, together[seed])
            single.append(run)
            alone[seed][task] = run.metrics["test/acc"]
    for seed in together:
        if set(reached[seed]) != set(alone[seed]):
            raise ValueError(
                f"The multi-task runs have the tasks {', '.join(reached[seed])}, baselines were "
                f"given for {', '.join(alone[seed]) or 'none'}; give one for each."
            )
    _check_lengths([*together.values(), *single])
    _check_steps(list(together.values()))
    _check_samples([*together.values(), *single])
    order = sorted(together, key=lambda seed: (seed is None, seed or 0))
    return AgainstSingle(order, [reached[s] for s in order], [alone[s] for s in order])


def _by_seed(runs: Sequence[TestedRun], what: str) -> dict[int | None, TestedRun]:
    found: dict[int | None, TestedRun] = {}
    for run in runs:
        if run.seed in found:
            raise ValueError(
                f"Two runs among {what} have the seed {run.seed}: {found[run.seed].folder} and "
                f"{run.folder}; give one per seed."
            )
        found[run.seed] = run
    return found


def _check_data(baseline: TestedRun, run: TestedRun) -> None:
    for source, fingerprint in baseline.fingerprints.items():
        if source in run.fingerprints and run.fingerprints[source] != fingerprint:
            raise ValueError(
                f"{baseline.folder} and {run.folder} have different images of {source}: "
                f"{fingerprint} and {run.fingerprints[source]}; test both on the same data."
            )


def _check_lengths(runs: Sequence[TestedRun]) -> None:
    """Refuse runs that trained for different numbers of epochs."""
    first = runs[0]
    for run in runs[1:]:
        if run.length != first.length:
            raise ValueError(
                f"{first.folder} trained for {first.length or 'an unknown number of epochs'}, "
                f"{run.folder} for {run.length or 'an unknown number of epochs'}; compare runs of "
                "the same length."
            )


def _check_steps(runs: Sequence[TestedRun]) -> None:
    """Refuse multi-task runs with different numbers of steps; baselines have their own."""
    first = runs[0]
    for run in runs[1:]:
        if run.steps != first.steps:
            raise ValueError(
                f"{first.folder} trained for {first.steps} steps, {run.folder} for {run.steps}; "
                "compare runs of the same length."
            )


def _check_samples(runs: Sequence[TestedRun]) -> None:
    """Refuse runs that tested a task on different numbers of samples."""
    first: dict[str, TestedRun] = {}
    for run in runs:
        for task, count in run.samples.items():
            other = first.setdefault(task, run)
            if other.samples[task] != count:
                raise ValueError(
                    f"{other.folder} was tested on {other.samples[task]} samples of {task!r}, "
                    f"{run.folder} on {count}; test both on the same ones."
                )


def _listed(seeds: Iterable[int | None]) -> str:
    return ", ".join(sorted(map(str, seeds)))
