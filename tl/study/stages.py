"""The stages of a study file, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tl.study.checks import (
    check_file,
    check_known,
    check_plain,
    is_among,
    key_of,
    listed,
    mapping_of,
    options_of,
    texts_of,
    varied,
)
from tl.study.schema import SAME, Overlay, Stage

_OURS = ("name", "log_dir", "resume")


def stage_of(name: str, content: object) -> Stage:  # noqa: C901, PLR0912 - one check after the other
    """Read a stage."""
    where = f"stage {name!r}"
    part = mapping_of(content, where)
    check_known(part, ("configs", "vary", "needs", "set", "except"), where)
    if not name.isidentifier():
        raise ValueError(f"{where}: a stage's name must be letters, digits and `_`.")
    if name in ("report", "search", "data", "model", "trainer"):
        raise ValueError(f"{where}: the name stands for something else; choose another one.")
    configs = texts_of(part.get("configs"), f"{where}: `configs`")
    for config in configs:
        check_file(config, f"{where}: `configs`")
    vary: dict[str, tuple[Any, ...]] = {}
    overlays: dict[str, dict[Any, Overlay]] = {}
    for axis, values in mapping_of(part.get("vary") or {}, f"{where}: `vary`").items():
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
        for value in values:
            check_plain(value, f"{where}: `vary.{axis}`")
        if len({key_of(value) for value in values}) < len(values):
            raise ValueError(f"{where}: `vary.{axis}` has a value twice.")
        vary[axis] = tuple(values)
    exceptions: dict[str, dict[Any, Mapping[str, Any]]] = {}
    for axis, cases in mapping_of(part.get("except") or {}, f"{where}: `except`").items():
        if axis not in vary:
            raise ValueError(f"{where}: `except.{axis}` is not varied; {varied(vary)}.")
        for value, options in mapping_of(cases, f"{where}: `except.{axis}`").items():
            if not is_among(value, vary[axis]):
                raise ValueError(
                    f"{where}: `except.{axis}` names {value!r}, not one of {listed(vary[axis])}."
                )
            exceptions.setdefault(axis, {})[value] = options_of(
                options, f"{where}: `except.{axis}.{value}`"
            )
    needs = {
        other: mapping_of(values or {}, f"{where}: `needs.{other}`")
        for other, values in mapping_of(part.get("needs") or {}, f"{where}: `needs`").items()
    }
    options = options_of(part.get("set") or {}, f"{where}: `set`")
    if both := [option for option in options if option in vary and option not in overlays]:
        raise ValueError(f"{where}: `set` names {both[0]!r}, which varies too; drop one.")
    stage = Stage(name, configs, vary, overlays, needs, options, exceptions)
    options_varied = {axis for axis in vary if axis not in overlays}
    if ours := (set_by(stage) | options_varied).intersection(_OURS):
        raise ValueError(f"{where}: `{min(ours)}` is given by the study itself; leave it out.")
    return stage


def set_by(stage: Stage) -> set[str]:
    """Return the options that a stage gives values of their own, to all runs or to some."""
    rows = [row.options for cases in stage.overlays.values() for row in cases.values()]
    cases = [options for each in stage.exceptions.values() for options in each.values()]
    return {option for options in (stage.options, *rows, *cases) for option in options}


def _overlay(given: object, where: str) -> Overlay:
    if given is None or given == {}:
        return Overlay()
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        configs = texts_of(given, where)
        for config in configs:
            check_file(config, where)
        return Overlay(configs)
    part = options_of(given, where)
    configs = texts_of(part.pop("configs", None) or [], f"{where}.configs", empty=True)
    for config in configs:
        check_file(config, where)
    return Overlay(configs, part)


def check_needs(stage: Stage, stages: Mapping[str, Stage]) -> None:
    """Refuse needs that no run meets."""
    where = f"stage {stage.name!r}"
    for other, values in stage.needs.items():
        if other == stage.name:
            raise ValueError(f"{where} needs itself; name the stage that comes before it.")
        if other not in stages:
            raise ValueError(f"{where} needs {other!r}, which is not one of {listed(stages)}.")
        for axis, value in values.items():
            theirs = stages[other].vary
            if axis not in theirs:
                raise ValueError(
                    f"{where}: `needs.{other}.{axis}` is not varied there; {varied(theirs)}."
                )
            wanted = stage.vary.get(axis, ()) if value == SAME else (value,)
            if value == SAME and axis not in stage.vary:
                raise ValueError(f"{where}: `needs.{other}.{axis}` is `same`, and does not vary.")
            if missing := [one for one in wanted if not is_among(one, theirs[axis])]:
                raise ValueError(
                    f"{where} needs {other!r} with {axis} {missing[0]!r}, which has only "
                    f"{listed(theirs[axis])}."
                )
        for axis, theirs_values in stages[other].vary.items():
            if axis not in values and len(theirs_values) > 1:
                raise ValueError(
                    f"{where}: `needs.{other}` must say which {axis} it needs: `{axis}: same` or "
                    f"one of {listed(theirs_values)}."
                )


def in_order(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Sort stages, those that are needed first."""
    ordered: dict[str, Stage] = {}
    while len(ordered) < len(stages):
        ready = [s for s in stages.values() if s.name not in ordered and set(s.needs) <= {*ordered}]
        if not ready:
            left = [name for name in stages if name not in ordered]
            raise ValueError(f"Stages need each other in a circle: {listed(left)}.")
        ordered |= {stage.name: stage for stage in ready}
    return ordered
