"""The study file, read and checked line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tl.reading import read_yaml
from tl.study.checks import check_known, listed, mapping_of
from tl.study.schema import Study
from tl.study.sections import report_of, search_of
from tl.study.stages import check_needs, in_order, stage_of


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
        content = mapping_of(content, "the file")
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
    if key == "question":
        content["question"] = value
    elif first in ("report", "search") and rest:
        content[first] = {**mapping_of(content.get(first) or {}, f"`{first}`"), rest: value}
    else:
        names, option = ([first], rest) if first in stages and rest else (list(stages), key)
        for name in names:
            mapping_of(stages[name], f"stage {name!r}")
            stage = stages[name]
            vary = stage.get("vary") or {}
            if option in vary and isinstance(vary[option], Mapping):
                kept = value if isinstance(value, list) else [value]
                if unknown := [one for one in kept if one not in vary[option]]:
                    raise ValueError(
                        f"`--set {key}`: {unknown[0]!r} is not one of {listed(vary[option])}."
                    )
                vary[option] = {one: vary[option][one] for one in kept}
            elif option in vary:
                vary[option] = value if isinstance(value, list) else [value]
            else:
                stage["set"] = {**(stage.get("set") or {}), option: value}


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
