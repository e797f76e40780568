"""Delta_m of finished multi-task runs against finished single-task runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tl.report.delta_m import delta_m, delta_m_interval
from tl.report.intervals import SHARES, Interval, mean_interval
from tl.report.tested import TestedRun, read_tested

_Values = Mapping[str, Mapping[str, float]]  # by task and score


@dataclass(frozen=True)
class AgainstSingle:
    """A multi-task method compared with single-task baselines, over seeds.

    Args:
        seeds: The seeds, ascending.
        reached: Test scores of the multi-task runs by task and name, one mapping per seed.
        alone: Test scores of the single-task runs.
        lower_is_better: Scores that are errors, as ``task/score``.
    """

    seeds: Sequence[int | None]
    reached: Sequence[_Values]
    alone: Sequence[_Values]
    lower_is_better: Sequence[str] = ()

    @property
    def delta_m(self) -> Interval:
        """Mean over the seeds with its 95 % interval, as a fraction."""
        return delta_m_interval(self.reached, self.alone, self.lower_is_better)

    def table(self) -> str:
        """Return a row per task and score, and Delta_m, in percent, as Markdown."""
        rows = [(task, score) for task, scores in self.alone[0].items() for score in scores]
        shares = all(score in SHARES for _, score in rows)
        unit = ", %" if shares else ""
        lines = [f"| task | alone{unit} | together{unit} |", "| --- | --- | --- |"]
        for task, score in rows:
            pair = [mean_interval([v[task][score] for v in f]) for f in (self.alone, self.reached)]
            if shares and len(self.alone[0][task]) == 1:
                lines.append(f"| {task} | {pair[0].percent()} | {pair[1].percent()} |")
                continue
            down = " (lower is better)" if f"{task}/{score}" in self.lower_is_better else ""
            said = " | ".join(
                each.percent() + ("" if shares else " %") if score in SHARES else _plain(each)
                for each in pair
            )
            lines.append(f"| {task} {score}{down} | {said} |")
        change = self.delta_m
        mark = " **negative transfer**" if change.below_zero else ""
        each = zip(self.seeds, self.reached, self.alone, strict=True)
        by_seed = ", ".join(
            f"{seed}: {100 * delta_m(v, b, self.lower_is_better):+z.1f}" for seed, v, b in each
        )
        lines += ["", f"Delta_m {change.percent(signed=True)} %{mark} (by seed: {by_seed})"]
        return "\n".join(lines)


def _plain(interval: Interval) -> str:
    spread = f"± {interval.half_width:.2g}" if interval.count > 1 else "(one run)"
    return f"{interval.mean:.4g} {spread}"


def against_single(
    runs: Iterable[str | Path],
    baselines: Mapping[str, Iterable[str | Path]],
    scores: Mapping[str, Sequence[str]] | None = None,
) -> AgainstSingle:
    """Compare multi-task runs with a network per task, seed by seed.

    The runs are folders written by ``test``; their checkpoints were chosen on validation images.
    Which way a score is better is read from the runs.

    Args:
        runs: Folders of the multi-task runs, one per seed.
        baselines: Folders of the single-task runs by task, for the same seeds.
        scores: Scores to compare by task, several of which are averaged; by default the one that
            decides for the task.

    Raises:
        ValueError: If a folder holds no test results, or results on a part of the images; if seeds,
            tasks, scores, epochs, numbers of test samples or adaptation do not match; or if a
            baseline was tested on different data.
    """
    together = _by_seed([read_tested(Path(folder)) for folder in runs], "the multi-task runs")
    tasks = {seed: _tasks_of(run) for seed, run in together.items()}
    names = [name for each in tasks.values() for name in each]
    asked = {task: list((scores or {}).get(task) or [_deciding(together, task)]) for task in names}
    if unknown := [task for task in scores or {} if task not in asked]:
        raise ValueError(
            f"`scores` name the task {unknown[0]!r}; the runs have {', '.join(asked) or 'none'}."
        )
    reached: dict[int | None, dict[str, dict[str, float]]] = {
        seed: {task: _scores(run, f"test/{task}/", asked[task]) for task in tasks[seed]}
        for seed, run in together.items()
    }
    alone: dict[int | None, dict[str, dict[str, float]]] = {seed: {} for seed in together}
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
            if task in asked:
                alone[seed][task] = _scores(run, "test/", asked[task])
    for seed in together:
        if set(reached[seed]) != set(baselines):
            raise ValueError(
                f"The multi-task runs have the tasks {', '.join(reached[seed])}, baselines were "
                f"given for {', '.join(baselines) or 'none'}; give one for each."
            )
    _check_alike(
        [*together.values(), *single],
        lambda run: f"trained for {run.length or 'an unknown number of epochs'}",
        "compare runs of the same length",
    )
    # baselines have steps of their own
    _check_alike(
        list(together.values()),
        lambda run: f"trained for {run.steps} steps",
        "compare runs of the same length",
    )
    _check_samples([*together.values(), *single])
    _check_alike(
        [*together.values(), *single],
        lambda run: (
            f"was tested {f'with {run.adaptation}' if run.adaptation else 'without adaptation'}"
        ),
        "test both alike",
    )
    order = sorted(together, key=lambda seed: (seed is None, seed or 0))
    lower = _errors([*together.values(), *single], asked)
    return AgainstSingle(order, [reached[s] for s in order], [alone[s] for s in order], lower)


def _tasks_of(run: TestedRun) -> list[str]:
    """Return the tasks whose scores a multi-task run has; a task's loss alone is none."""
    parts = (name.split("/") for name in run.metrics)
    return list(dict.fromkeys(p[1] for p in parts if len(p) == 3 and p[2] != "loss"))  # noqa: PLR2004


def _deciding(runs: Mapping[int | None, TestedRun], task: str) -> str:
    return next((next(iter(r.scores[task])) for r in runs.values() if r.scores.get(task)), "acc")


def _scores(run: TestedRun, prefix: str, names: Sequence[str]) -> dict[str, float]:
    for name in names:
        if prefix + name not in run.metrics:
            there = (n.removeprefix(prefix) for n in run.metrics if n.startswith(prefix))
            raise ValueError(
                f"{run.folder} has no score {prefix}{name}; it has "
                f"{', '.join(n for n in there if '/' not in n) or 'none'} there."
            )
    return {name: run.metrics[prefix + name] for name in names}


def _errors(runs: Sequence[TestedRun], asked: Mapping[str, Sequence[str]]) -> list[str]:
    """Return as ``task/score`` what is better when lower; accuracies are better when higher."""
    found = []
    for task, names in asked.items():
        for name in names:
            ways = {run.scores[task][name] for run in runs if name in run.scores.get(task, {})}
            if name == "loss":
                ways = {"min"}
            if len(ways) > 1 or (not ways and name != "acc"):
                raise ValueError(
                    f"The runs do not record which way {task}/{name} is better; test them again."
                )
            found += [f"{task}/{name}"] if ways == {"min"} else []
    return found


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


def _check_alike(runs: Sequence[TestedRun], said: Callable[[TestedRun], str], advice: str) -> None:
    """Refuse runs of which something different is to be said."""
    first = runs[0]
    for run in runs[1:]:
        if said(run) != said(first):
            raise ValueError(f"{first.folder} {said(first)}, {run.folder} {said(run)}; {advice}.")


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
