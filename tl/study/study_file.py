"""The study file, read and checked line by line."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from tl.reading import read_yaml
from tl.study.checks import check_known, is_among, listed, mapping_of
from tl.study.schema import Study
from tl.study.sections import report_of, search_of
from tl.study.stages import check_needs, in_order, stage_of


def read_study(path: Path, settings: Sequence[str] = ()) -> Study:
    """Read a study file.

    Args:
        path: The file.
        settings: Changes, ``KEY=VALUE``. The key is ``question``, ``report``, ``search`` or a part
            of these such as ``report.against.method``, ``STAGE.OPTION``, or an option of every
            stage; the value is YAML. An option that varies gets these values instead; one that
            rows set for themselves gets the value in these rows too.

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
        content = mapping_of(content, "the file")
        # stages that share a part by an alias change apart from one another
        stages = mapping_of(content.get("stages"), "`stages`")
        content["stages"] = {name: deepcopy(stage) for name, stage in stages.items()}
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
    stages = mapping_of(content.get("stages"), "`stages`")
    if key in ("question", "report", "search"):
        content[key] = value
    elif first in ("report", "search"):
        part = content[first] = mapping_of(content.get(first) or {}, f"`{first}`")
        name, _, below = rest.partition(".")
        if below and isinstance(part.get(name), Mapping):
            part[name] = {**part[name], below: value}
        else:
            part[rest] = value
    elif key == "stages" or (first in stages and not rest):
        raise ValueError(f"`--set {key}` would replace whole stages; name an option.")
    else:
        names, option = ([first], rest) if first in stages and rest else (list(stages), key)
        for name in names:
            stage = stages[name] = mapping_of(stages[name], f"stage {name!r}")
            for kind in ("vary", "set", "except"):
                stage[kind] = mapping_of(stage.get(kind) or {}, f"stage {name!r}: `{kind}`")
            _give(stage, option, value, key)
        content["stages"] = stages


def _give(stage: dict[str, Any], option: str, value: object, key: str) -> None:
    """Give an option of a stage a value, or the values that it varies over."""
    vary, kept = stage["vary"], value if isinstance(value, list) else [value]
    if option not in vary:
        stage["set"] = {**stage["set"], option: value}
        _override(stage, option, value, key)
        return
    named = vary[option]
    if isinstance(named, Mapping) and (u := [one for one in kept if not is_among(one, named)]):
        raise ValueError(f"`--set {key}`: {u[0]!r} is not one of {listed(named)}.")
    if isinstance(named, Mapping | list):
        _narrow(stage, option, kept)
    vary[option] = {one: named[one] for one in kept} if isinstance(named, Mapping) else kept


def _narrow(stage: Mapping[str, Any], axis: str, kept: Sequence[Any]) -> None:
    """Leave out exceptions for values that an axis had and no longer has."""
    cases = stage["except"].get(axis)
    for value in list(stage["vary"][axis]):
        if isinstance(cases, dict) and isinstance(value, Hashable) and value not in kept:
            cases.pop(value, None)


def _override(stage: Mapping[str, Any], option: str, value: object, key: str) -> None:
    """Give an option its value also where rows or exceptions have one of their own."""
    axes = [*stage["vary"].items(), *stage["except"].items()]
    cases = [case for _, named in axes if isinstance(named, dict) for case in named.values()]
    given = [case for case in cases if isinstance(case, dict)]
    lists = [axis for axis, values in stage["vary"].items() if isinstance(values, list)]
    for name in [*lists, *(name for case in given for name in case)]:
        if f"{option}.".startswith(f"{name}.") != f"{name}.".startswith(f"{option}."):
            raise ValueError(f"`--set {key}`: rows set {name} for themselves; change that.")
    for case in given:
        if option in case:
            case[option] = value


def _study(path: Path, content: dict[str, Any]) -> Study:
    check_known(content, ("question", "stages", "search", "report"), "the file")
    question = content.get("question")
    if not isinstance(question, str) or not question.strip():
        raise ValueError("`question` must be a sentence that says what the study asks.")
    raw = mapping_of(content.get("stages"), "`stages`")
    if not raw:
        raise ValueError("`stages` must name at least one stage.")
    stages = {str(name): stage_of(str(name), part) for name, part in raw.items()}
    for stage in stages.values():
        check_needs(stage, stages)
    stages = in_order(stages)
    report = report_of(content.get("report"), stages)
    search = content.get("search")
    found = None if search is None else search_of(search, stages, report)
    return Study(path, " ".join(question.split()), stages, report, found)
