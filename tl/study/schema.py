"""The study file: a question, its stages, an optional search and a report, checked line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from tl.reading import read_yaml

SAME = "same"
SAMPLERS = ("tpe", "random")


@dataclass(frozen=True)
class Overlay:
    """What a named value of an axis adds to a run.

    Args:
        configs: Further configuration files.
        options: Further options by dotted name.
    """

    configs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Runs that differ in the values of some axes.

    Args:
        name: Its name.
        configs: Configuration files, a later one adding to those before it.
        vary: Values by axis; an axis is an option or, with overlays, a free name.
        overlays: Overlay by axis and value, for axes with overlays.
        needs: By needed stage, the value of each of its axes; ``same`` takes the run's own.
        options: Options of every run of the stage; may hold ``{stage.best}``.
        exceptions: Options by axis and value that replace those above.
    """

    name: str
    configs: tuple[str, ...]
    vary: Mapping[str, tuple[Any, ...]]
    overlays: Mapping[str, Mapping[Any, Overlay]]
    needs: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    exceptions: Mapping[str, Mapping[Any, Mapping[str, Any]]]


@dataclass(frozen=True)
class Range:
    """An option's range in a search.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Uniform in the logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Search:
    """The same number of trials for each method, chosen by a validation metric.

    Args:
        stage: Stage whose runs are tuned.
        over: Range, or list of plain values, by option.
        trials: Number of trials per method.
        per: Axes, each combination of whose values is tuned by itself.
        metric: Metric on ``val/``.
        seed: Seed of the trials' runs and of the sampler; not one of the study's.
        sampler: ``tpe`` or ``random``.
        pruning: Stop a trial that is below the median of the earlier ones at the same step.
        lower_is_better: Direction; ``None`` follows the name, ``val/.../loss`` being lower.
    """

    stage: str
    over: Mapping[str, Range | tuple[Any, ...]]
    trials: int
    per: tuple[str, ...]
    metric: str
    seed: int
    sampler: str = "tpe"
    pruning: bool = False
    lower_is_better: bool = False


@dataclass(frozen=True)
class Report:
    """What is compared.

    Args:
        stage: Stage whose runs are compared.
        metrics: Metrics by name, the first being the one of claims and figures.
        rows: Axes of the table's rows.
        against: Value by axis of what the others are compared with; empty for no comparison.
        pairs: Axis over whose values runs are paired, the seed.
        lower_is_better: Metrics whose lower values are better.
        delta_m: Stage of the networks trained on one task each, and the axis that names the task.
    """

    stage: str
    metrics: tuple[str, ...]
    rows: tuple[str, ...]
    against: Mapping[str, Any]
    pairs: str
    lower_is_better: tuple[str, ...] = ()
    delta_m: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Study:
    """A study file.

    Args:
        path: The file.
        question: What it asks.
        stages: Stages in the order of their needs.
        report: What is compared.
        search: The search, if there is one.
    """

    path: Path
    question: str
    stages: Mapping[str, Stage]
    report: Report
    search: Search | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def read_study(path: Path, settings: Sequence[str] = ()) -> Study:
    """Read a study file.

    Args:
        path: The file.
        settings: Changes, ``KEY=VALUE``. The key is ``report.NAME``, ``search.NAME``,
            ``STAGE.OPTION``, or an option of every stage; the value is YAML. An option that varies
            gets these values instead.

    Raises:
        ValueError: With a line that says what is wrong.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise ValueError(f"There is no study file {path}.") from None
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {' '.join(str(error).split())}.") from None
    try:
        content = _mapping(content, "the file")
        for setting in settings:
            _change(content, setting)
        return _study(path, content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _change(content: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not (key and equals):
        raise ValueError(f"`--set` must be KEY=VALUE, got {setting!r}.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"`--set {key}`: {text!r} is not YAML.") from None
    first, _, rest = key.partition(".")
    stages = _mapping(content.get("stages"), "`stages`")
    if key == "question":
        content["question"] = value
    elif first in ("report", "search") and rest:
        content[first] = {**_mapping(content.get(first) or {}, f"`{first}`"), rest: value}
    else:
        names, option = ([first], rest) if first in stages and rest else (list(stages), key)
        for name in names:
            stage = _mapping(stages[name], f"stage {name!r}")
            vary = stage.get("vary") or {}
            if option in vary and isinstance(vary[option], Mapping):
                kept = value if isinstance(value, list) else [value]
                if unknown := [one for one in kept if one not in vary[option]]:
                    raise ValueError(
                        f"`--set {key}`: {unknown[0]!r} is not one of {_listed(vary[option])}."
                    )
                vary[option] = {one: vary[option][one] for one in kept}
            elif option in vary:
                vary[option] = value if isinstance(value, list) else [value]
            else:
                stage["set"] = {**(stage.get("set") or {}), option: value}


def _study(path: Path, content: dict[str, Any]) -> Study:
    _known(content, ("question", "stages", "search", "report"), "the file")
    question = content.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` must be a sentence that says what the study asks.")
    raw = _mapping(content.get("stages"), "`stages`")
    if not raw:
        raise ValueError("`stages` must name at least one stage.")
    stages = {str(name): _stage(str(name), part) for name, part in raw.items()}
    for stage in stages.values():
        _check_needs(stage, stages)
    stages = _in_order(stages)
    report = _report(content.get("report"), stages)
    search = content.get("search")
    found = None if search is None else _search(search, stages, report)
    return Study(path, " ".join(question.split()), stages, report, found)


def _stage(name: str, content: object) -> Stage:
    where = f"stage {name!r}"
    part = _mapping(content, where)
    _known(part, ("configs", "vary", "needs", "set", "except"), where)
    if not name.isidentifier():
        raise ValueError(f"{where}: a stage's name must be letters, digits and `_`.")
    if name in ("report", "search", "data", "model", "trainer"):
        raise ValueError(f"{where}: the name stands for something else; choose another one.")
    configs = _texts(part.get("configs"), f"{where}: `configs`")
    for config in configs:
        _check_file(config, f"{where}: `configs`")
    vary: dict[str, tuple[Any, ...]] = {}
    overlays: dict[str, dict[Any, Overlay]] = {}
    for axis, values in _mapping(part.get("vary") or {}, f"{where}: `vary`").items():
        if isinstance(values, Mapping):
            overlays[axis] = {
                value: _overlay(given, f"{where}: `vary.{axis}.{value}`")
                for value, given in values.items()
            }
            values = list(values)  # noqa: PLW2901 - names in place of overlays
        if not isinstance(values, list) or not values:
            raise ValueError(
                f"{where}: `vary.{axis}` must be a list of values, or overlays by name, got "
                f"{json.dumps(values, default=str)}."
            )
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) < len(values):
            raise ValueError(f"{where}: `vary.{axis}` has a value twice.")
        vary[axis] = tuple(values)
    exceptions: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for axis, cases in _mapping(part.get("except") or {}, f"{where}: `except`").items():
        if axis not in vary:
            raise ValueError(f"{where}: `except.{axis}` is not varied; {_varied(vary)}.")
        for value, options in _mapping(cases, f"{where}: `except.{axis}`").items():
            if value not in vary[axis]:
                continue  # left out by --set
            exceptions.setdefault(axis, {})[value] = _mapping(
                options, f"{where}: `except.{axis}.{value}`"
            )
    needs = {
        other: _mapping(values or {}, f"{where}: `needs.{other}`")
        for other, values in _mapping(part.get("needs") or {}, f"{where}: `needs`").items()
    }
    options = _mapping(part.get("set") or {}, f"{where}: `set`")
    return Stage(name, configs, vary, overlays, needs, options, exceptions)


def _overlay(given: object, where: str) -> Overlay:
    if given is None or given == {}:
        return Overlay()
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        configs = _texts(given, where)
        for config in configs:
            _check_file(config, where)
        return Overlay(configs)
    part = _mapping(given, where)
    configs = _texts(part.pop("configs", None) or [], f"{where}.configs", empty=True)
    for config in configs:
        _check_file(config, where)
    return Overlay(configs, part)


def _check_needs(stage: Stage, stages: Mapping[str, Stage]) -> None:
    where = f"stage {stage.name!r}"
    for other, values in stage.needs.items():
        if other == stage.name:
            raise ValueError(f"{where} needs itself; name the stage that comes before it.")
        if other not in stages:
            raise ValueError(f"{where} needs {other!r}, which is not one of {_listed(stages)}.")
        for axis, value in values.items():
            theirs = stages[other].vary
            if axis not in theirs:
                raise ValueError(
                    f"{where}: `needs.{other}.{axis}` is not varied there; {_varied(theirs)}."
                )
            wanted = stage.vary.get(axis, ()) if value == SAME else (value,)
            if value == SAME and axis not in stage.vary:
                raise ValueError(f"{where}: `needs.{other}.{axis}` is `same`, and does not vary.")
            if missing := [one for one in wanted if one not in theirs[axis]]:
                raise ValueError(
                    f"{where} needs {other!r} with {axis} {missing[0]!r}, which has only "
                    f"{_listed(theirs[axis])}."
                )
        for axis, theirs_values in stages[other].vary.items():
            if axis not in values and len(theirs_values) > 1:
                raise ValueError(
                    f"{where}: `needs.{other}` must say which {axis} it needs: `{axis}: same` or "
                    f"one of {_listed(theirs_values)}."
                )


def _in_order(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    ordered: dict[str, Stage] = {}
    while len(ordered) < len(stages):
        ready = [s for s in stages.values() if s.name not in ordered and set(s.needs) <= {*ordered}]
        if not ready:
            left = [name for name in stages if name not in ordered]
            raise ValueError(f"Stages need each other in a circle: {_listed(left)}.")
        ordered |= {stage.name: stage for stage in ready}
    return ordered


def _report(content: object, stages: Mapping[str, Stage]) -> Report:
    part = _mapping(content, "`report`")
    known = ("stage", "metric", "rows", "against", "pairs", "lower_is_better", "delta_m")
    _known(part, known, "`report`")
    name = part.get("stage", list(stages)[-1])
    if name not in stages:
        raise ValueError(f"`report.stage` is {name!r}, not one of {_listed(stages)}.")
    vary = stages[name].vary
    metrics = part.get("metric")
    metrics = _texts([metrics] if isinstance(metrics, str) else metrics, "`report.metric`")
    for metric in metrics:
        if not metric.startswith(("test/", "val/")):
            raise ValueError(f"`report.metric` must begin with test/ or val/, got {metric!r}.")
    rows = _texts(part.get("rows"), "`report.rows`")
    pairs = part.get("pairs", "seed_everything")
    against = _mapping(part.get("against") or {}, "`report.against`")
    for axis in [*rows, pairs, *against]:
        if axis not in vary:
            raise ValueError(f"`report` names {axis!r}; stage {name!r} varies {_listed(vary)}.")
    if pairs in rows:
        raise ValueError(f"`report.pairs` is {pairs!r}, which cannot be a row too.")
    if left := [axis for axis in vary if axis not in (*rows, pairs) and len(vary[axis]) > 1]:
        raise ValueError(f"`report.rows` leaves out {left[0]!r}, whose runs would be mixed.")
    for axis, value in against.items():
        if axis not in rows:
            raise ValueError(f"`report.against` names {axis!r}, which is not one of the rows.")
        if value not in vary[axis]:
            raise ValueError(
                f"`report.against.{axis}` is {value!r}, not one of {_listed(vary[axis])}."
            )
    if len(vary[pairs]) < 2:  # noqa: PLR2004 - a spread needs two
        raise ValueError(
            f"stage {name!r} has one value of {pairs!r}: one run tells nothing of the spread. "
            "Give two seeds or more, five for a claim."
        )
    lower = part.get("lower_is_better", [m for m in metrics if m.endswith("loss")])
    delta = part.get("delta_m")
    if delta is not None:
        delta = _mapping(delta, "`report.delta_m`")
        _known(delta, ("stage", "axis"), "`report.delta_m`")
        alone = stages.get(str(delta.get("stage")))
        if alone is None or delta.get("axis") not in alone.vary or pairs not in alone.vary:
            raise ValueError(
                "`report.delta_m` must be {stage: S, axis: A}: the stage of networks trained on one "
                f"task each, its axis that names the task, and the same {pairs!r}."
            )
    return Report(
        name, metrics, rows, against, pairs, _texts(lower, "`lower_is_better`", empty=True), delta
    )


def _search(content: object, stages: Mapping[str, Stage], report: Report) -> Search:
    part = _mapping(content, "`search`")
    known = ("stage", "over", "trials", "per", "metric", "seed", "sampler", "pruning")
    _known(part, (*known, "lower_is_better"), "`search`")
    name = part.get("stage", report.stage)
    if name not in stages:
        raise ValueError(f"`search.stage` is {name!r}, not one of {_listed(stages)}.")
    vary = stages[name].vary
    over = {
        option: _range(given, f"`search.over.{option}`")
        for option, given in _mapping(part.get("over"), "`search.over`").items()
    }
    if not over:
        raise ValueError("`search.over` must name an option and its range.")
    if both := [option for option in over if option in vary]:
        raise ValueError(f"`search.over.{both[0]}` is varied by stage {name!r} too; drop one.")
    trials, seed = part.get("trials"), part.get("seed")
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        raise ValueError(f"`search.trials` must be a number of trials per method, got {trials!r}.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"`search.seed` must be a whole number, got {seed!r}.")
    if seed in vary.get("seed_everything", ()):
        raise ValueError(
            f"`search.seed` {seed} is one of the study's seeds; tune on one that is not reported."
        )
    metric = part.get("metric")
    if not isinstance(metric, str) or not metric.startswith("val/"):
        raise ValueError(
            f"`search.metric` must begin with val/, got {metric!r}: a search on test would tune on "
            "what is reported."
        )
    per = part.get("per", [])
    per = _texts([per] if isinstance(per, str) else per, "`search.per`", empty=True)
    for axis in per:
        if axis not in vary:
            raise ValueError(f"`search.per` is {axis!r}; stage {name!r} varies {_listed(vary)}.")
    sampler, pruning = part.get("sampler", "tpe"), part.get("pruning", False)
    if sampler not in SAMPLERS:
        raise ValueError(f"`search.sampler` must be one of {_listed(SAMPLERS)}, got {sampler!r}.")
    if not isinstance(pruning, bool):
        raise ValueError(f"`search.pruning` must be true or false, got {pruning!r}.")  # noqa: TRY004
    lower = part.get("lower_is_better", metric.endswith("loss"))
    return Search(name, over, trials, per, metric, seed, sampler, pruning, bool(lower))


def _range(given: object, where: str) -> Range | tuple[Any, ...]:
    """Read ``[low, high]``, ``[low, high, log]`` or ``{choices: [...]}``."""
    if isinstance(given, Mapping) and isinstance(given.get("choices"), list) and given["choices"]:
        return tuple(given["choices"])
    numbers = [x for x in given if _is_number(x)] if isinstance(given, list) else []
    rest = [x for x in cast("list[Any]", given) if not _is_number(x)] if numbers else []
    if len(numbers) != 2 or rest not in ([], ["log"]):  # noqa: PLR2004 - low and high
        raise ValueError(
            f"{where} must be [low, high], [low, high, log] or {{choices: [...]}}, got "
            f"{json.dumps(given, default=str)}."
        )
    low, high = map(float, numbers)
    if low >= high or (rest and low <= 0):
        raise ValueError(f"{where} must rise, from above 0 with log, got {low:g} to {high:g}.")
    return Range(low, high, bool(rest))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _mapping(content: object, where: str) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be a mapping, got {json.dumps(content, default=str)}.")  # noqa: TRY004
    return dict(content)


def _texts(content: object, where: str, *, empty: bool = False) -> tuple[str, ...]:
    valid = isinstance(content, list | tuple) and all(isinstance(x, str) for x in content)
    if not valid or not (content or empty):
        raise ValueError(f"{where} must be a list of texts, got {json.dumps(content, default=str)}.")
    return tuple(cast("list[str]", content))


def _known(part: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    if unknown := [name for name in part if name not in names]:
        raise ValueError(f"{where} has no {unknown[0]!r}; it has {_listed(names)}.")


def _check_file(path: str, where: str) -> None:
    if not Path(path).is_file():
        raise ValueError(f"{where} names {path}, and there is no such file.")


def _varied(vary: Mapping[str, Any]) -> str:
    return f"it varies {_listed(vary)}" if vary else "it varies nothing"


def _listed(names: Sequence[Any] | Mapping[Any, Any]) -> str:
    return ", ".join(map(str, names)) or "none"
