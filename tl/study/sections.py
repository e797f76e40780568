"""The report and the search of a study file, read and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from tl.study.checks import (
    check_known,
    check_once,
    is_among,
    key_of,
    listed,
    mapping_of,
    options_of,
    texts_of,
)
from tl.study.schema import FEWEST_DATA_SETS, SAMPLERS, Range, Report, Search, Stage
from tl.study.stages import set_by


def report_of(  # noqa: C901, PLR0912, PLR0915 - one check after the other
    content: object, stages: Mapping[str, Stage]
) -> Report:
    """Read what is compared."""
    part = mapping_of(content, "`report`")
    known = (
        "stage",
        "metric",
        "rows",
        "against",
        "pairs",
        "lower_is_better",
        "delta_m",
        "data_sets",
    )
    check_known(part, known, "`report`")
    name = part.get("stage", list(stages)[-1])
    if name not in list(stages):
        raise ValueError(f"`report.stage` is {name!r}, not one of {listed(stages)}.")
    vary = stages[name].vary
    metrics = part.get("metric")
    metrics = texts_of([metrics] if isinstance(metrics, str) else metrics, "`report.metric`")
    for metric in metrics:
        if not metric.startswith(("test/", "val/")):
            raise ValueError(f"`report.metric` must begin with test/ or val/, got {metric!r}.")
    rows = texts_of(part.get("rows"), "`report.rows`")
    [pairs] = texts_of([part.get("pairs", "seed_everything")], "`report.pairs`")
    against = mapping_of(part.get("against") or {}, "`report.against`")
    for axis in [*rows, pairs, *against]:
        if axis not in vary:
            raise ValueError(f"`report` names {axis!r}; stage {name!r} varies {listed(vary)}.")
    check_once(metrics, "`report.metric`")
    check_once(rows, "`report.rows`")
    if pairs in rows:
        raise ValueError(f"`report.pairs` is {pairs!r}, which cannot be a row too.")
    if left := [axis for axis in vary if axis not in (*rows, pairs) and len(vary[axis]) > 1]:
        raise ValueError(f"`report.rows` leaves out {left[0]!r}, whose runs would be mixed.")
    for axis, value in against.items():
        if axis not in rows:
            raise ValueError(f"`report.against` names {axis!r}, which is not one of the rows.")
        if not is_among(value, vary[axis]):
            raise ValueError(
                f"`report.against.{axis}` is {value!r}, not one of {listed(vary[axis])}."
            )
    if not all(isinstance(value, Hashable) for value in vary[pairs]):
        raise ValueError(f"`report.pairs` is {pairs!r}, whose values must be numbers or texts.")
    if len({*vary[pairs]}) < len(vary[pairs]):  # 0 and false, which would be one run of two
        raise ValueError(f"`report.pairs` is {pairs!r}, two of whose values are equal.")
    if len(vary[pairs]) < 2:  # noqa: PLR2004 - a spread needs two
        raise ValueError(
            f"stage {name!r} has one value of {pairs!r}: one run does not show the spread. "
            "Give two seeds or more, five for a claim."
        )
    lower = part.get("lower_is_better", [m for m in metrics if m.endswith("loss")])
    delta = part.get("delta_m")
    if delta is not None:
        delta = mapping_of(delta, "`report.delta_m`")
        check_known(delta, ("stage", "axis"), "`report.delta_m`")
        alone = stages.get(str(delta.get("stage")))
        axis = str(delta.get("axis"))
        if alone is None or axis not in alone.vary or pairs not in alone.vary:
            raise ValueError(
                "`report.delta_m` must be {stage: S, axis: A}: the stage of networks trained on "
                f"one task each, its axis that names the task, and the same {pairs!r}."
            )
        tasks = [*map(str, alone.vary[axis])]
        parts = [metric.split("/") for metric in metrics]
        if bad := [m for m, words in zip(metrics, parts, strict=True) if words[1:-1] != words[1:2]]:
            raise ValueError(
                f"`report.delta_m` needs metrics that name their task, as test/TASK/acc, got "
                f"{bad[0]}."
            )
        if strange := [words[1] for words in parts if words[1] not in tasks]:
            raise ValueError(
                f"`report.metric` names the task {strange[0]!r}, and `report.delta_m.axis` has "
                f"{listed(tasks)}."
            )
    data_sets = part.get("data_sets")
    if data_sets is not None and (
        data_sets not in rows or len(rows) == 1 or len(vary[data_sets]) < FEWEST_DATA_SETS
    ):
        raise ValueError(
            f"`report.data_sets` must be one of several rows, with {FEWEST_DATA_SETS} values or "
            f"more, got {data_sets!r}; seeds and label fractions are not data sets."
        )
    lower = _lower(lower, metrics, [] if delta is None else [m.split("/")[1] for m in metrics])
    return Report(name, metrics, rows, against, pairs, lower, delta, data_sets)


def _lower(content: object, metrics: Sequence[str], tasks: Sequence[str]) -> tuple[str, ...]:
    """Read which metrics, or tasks of a Delta_m, are better when lower."""
    lower = texts_of(content, "`report.lower_is_better`", empty=True)
    if unknown := [name for name in lower if name not in (*metrics, *tasks)]:
        known = listed(list(dict.fromkeys([*metrics, *tasks])))
        raise ValueError(f"`report.lower_is_better` names {unknown[0]!r}, not one of {known}.")
    return lower


def search_of(  # noqa: C901, PLR0912 - one check after the other
    content: object, stages: Mapping[str, Stage], report: Report
) -> Search:
    """Read the search."""
    part = mapping_of(content, "`search`")
    known = ("stage", "over", "trials", "per", "metric", "seed", "sampler", "pruning")
    check_known(part, (*known, "lower_is_better"), "`search`")
    name = part.get("stage", report.stage)
    if name not in list(stages):
        raise ValueError(f"`search.stage` is {name!r}, not one of {listed(stages)}.")
    vary = stages[name].vary
    over = {
        option: _range(given, f"`search.over.{option}`")
        for option, given in options_of(part.get("over"), "`search.over`").items()
    }
    if not over:
        raise ValueError("`search.over` must name an option and its range.")
    if both := [option for option in over if option in vary]:
        raise ValueError(f"`search.over.{both[0]}` is varied by stage {name!r} too; drop one.")
    if both := [option for option in over if option in set_by(stages[name])]:
        raise ValueError(f"`search.over.{both[0]}` is set by stage {name!r} too; drop one.")
    trials, seed = part.get("trials"), part.get("seed")
    if not isinstance(trials, int) or isinstance(trials, bool) or trials < 1:
        raise ValueError(f"`search.trials` must be a number of trials per method, got {trials!r}.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"`search.seed` must be a whole number, got {seed!r}.")  # noqa: TRY004
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
    seeds = (report.pairs, "seed_everything")
    rows = [axis for axis, values in vary.items() if axis not in seeds and len(values) > 1]
    per = part.get("per", rows)
    per = texts_of([per] if isinstance(per, str) else per, "`search.per`", empty=True)
    check_once(per, "`search.per`")
    for axis in per:
        if axis in seeds:
            raise ValueError(
                f"`search.per` is {axis!r}; the seeds of a row must share their options."
            )
        if axis not in vary:
            raise ValueError(f"`search.per` is {axis!r}; stage {name!r} varies {listed(vary)}.")
    sampler, pruning = part.get("sampler", "tpe"), part.get("pruning", False)
    if sampler not in SAMPLERS:
        raise ValueError(f"`search.sampler` must be one of {listed(SAMPLERS)}, got {sampler!r}.")
    if not isinstance(pruning, bool):
        raise ValueError(f"`search.pruning` must be true or false, got {pruning!r}.")  # noqa: TRY004
    lower = _is_error(metric, part.get("lower_is_better"))
    return Search(name, over, trials, per, metric, seed, sampler, pruning, lower)


def _is_error(metric: str, stated: object) -> bool:
    """Tell whether a search's metric is better when lower: as stated, or by its score's name."""
    if stated is not None and not isinstance(stated, bool):
        raise ValueError(f"`search.lower_is_better` must be true or false, got {stated!r}.")
    score = metric.rpartition("/")[2]
    if score in ("acc", "loss"):
        return score == "loss" if stated is None else stated
    from tl.modules.direction import (  # noqa: PLC0415 - needs torch, which most studies do not
        direction_of,
        refuse_oracle,
    )

    refuse_oracle(metric, "`search`")
    known = direction_of(metric)
    if stated is None and known is None:
        raise ValueError(
            f"`search` cannot know which way {metric} is better; set `search.lower_is_better` to "
            "true or false."
        )
    return known == "min" if stated is None else stated


def _range(given: object, where: str) -> Range | tuple[Any, ...]:
    """Read ``[low, high]``, ``[low, high, log]`` or ``{choices: [...]}``."""
    if isinstance(given, Mapping) and isinstance(given.get("choices"), list) and given["choices"]:
        check_known(given, ("choices",), where)
        check_once([key_of(choice) for choice in given["choices"]], f"{where}.choices")
        return tuple(given["choices"])
    numbers = [x for x in given if is_number(x)] if isinstance(given, list) else []
    rest = [x for x in cast("list[Any]", given) if not is_number(x)] if numbers else []
    if len(numbers) != 2 or rest not in ([], ["log"]):  # noqa: PLR2004 - low and high
        raise ValueError(
            f"{where} must be [low, high], [low, high, log] or {{choices: [...]}}, got "
            f"{json.dumps(given, default=str)}."
        )
    low, high = map(float, numbers)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{where} must be between two finite numbers, got {low:g} to {high:g}.")
    if low >= high or (rest and low <= 0):
        raise ValueError(f"{where} must rise, from above 0 with log, got {low:g} to {high:g}.")
    return Range(low, high, bool(rest))


def is_number(value: object) -> bool:
    """Tell whether a value is a number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)
