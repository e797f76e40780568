"""The runs of a study: one for each combination of a stage's values."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tl.study.checks import key_of
from tl.study.merging import FREE, hash_of, merged
from tl.study.schema import SAME, Search, Stage, Study

REFERENCE = re.compile(r"\{(\w+)\.best\}")
_REFERENCE_LIKE = re.compile(r"\{(\w+)\.(\w+)\}")
SEED = "seed_everything"
_LONGEST = 60


@dataclass(frozen=True)
class Point:
    """A run of a study.

    Args:
        stage: Its stage.
        values: Its value on each axis.
        configs: Configuration files, in order.
        options: Options by dotted name; a text may hold ``{stage.best}``.
        needs: Name of the point it needs, by stage.
        hash: Hash of its configuration and of those it needs.
        settings: Hash of its configuration alone, as its files and options give it.
        group: Where a search chooses options for it, the values of the search's ``per``.
        trial: Number of a trial of the search; ``None`` for a run that is reported.
    """

    stage: str
    values: Mapping[str, Any]
    configs: tuple[str, ...]
    options: Mapping[str, Any]
    needs: Mapping[str, str]
    hash: str
    settings: str
    group: tuple[Any, ...] | None = None
    trial: int | None = None

    @property
    def name(self) -> str:
        """A name that is a folder's, unique in the study."""
        return f"{self.stage}/{self.label}-{self.hash[:10]}"

    @property
    def label(self) -> str:
        """Its values, in so few letters that they are a folder's name."""
        text = re.sub(r"[^A-Za-z0-9.=-]+", "-", "_".join(self._words())).strip("-.")
        return text[:_LONGEST].rstrip("-.") or "run"

    @property
    def title(self) -> str:
        """Its name, with its values behind it where the name has no place for all of them."""
        words = self._words()
        return f"{self.name} ({', '.join(words)})" if len("_".join(words)) > _LONGEST else self.name

    def _words(self) -> list[str]:
        words = [_short(axis, value) for axis, value in self.values.items()]
        return words + ([] if self.trial is None else [f"trial-{self.trial}"])


def points_of(study: Study) -> dict[str, Point]:
    """List the runs of a study by name, those that are needed first.

    Trials of the search come before the runs that take its choice.

    Raises:
        ValueError: If two runs are the same, or a configuration cannot be read.
    """
    found: dict[str, Point] = {}
    at: dict[tuple[str, str], Point] = {}
    for stage in study.stages.values():
        search = study.search if study.search and study.search.stage == stage.name else None
        trials: dict[str, list[Point]] = {}
        if search is not None:
            for point in _trials(study, stage, search, found, at):
                trials.setdefault(key_of(point.group), []).append(point)
                _add(found, point)
        for values in combinations(stage, study.report.pairs):
            group = tuple(values[axis] for axis in search.per) if search else None
            tuned = [point.name for point in trials.get(key_of(group), ())]
            point = _point(study, stage, values, found, at, group=group)
            if tuned:
                needs = {**point.needs, **{f"trial {n}": name for n, name in enumerate(tuned)}}
                point = replace(
                    point, needs=needs, hash=hash_of({}, point=point.hash, trials=sorted(tuned))
                )
            at[stage.name, key_of(values)] = point
            _add(found, point)
    return found


def _add(found: dict[str, Point], point: Point) -> None:
    if any(point.hash == other.hash for other in found.values()):
        raise ValueError(
            f"Two runs of stage {point.stage!r} have the same configuration: {point.label}; an "
            "axis changes nothing, or an overlay is the same as another one."
        )
    found[point.name] = point


def combinations(stage: Stage, slowest: str = SEED) -> Iterator[dict[str, Any]]:
    """List the combinations of a stage's values, each seed whole before the next."""
    axes = sorted(stage.vary, key=lambda axis: axis != slowest)
    for values in itertools.product(*(stage.vary[axis] for axis in axes)):
        given = dict(zip(axes, values, strict=True))
        yield {axis: given[axis] for axis in stage.vary}


def _trials(
    study: Study,
    stage: Stage,
    search: Search,
    found: dict[str, Point],
    at: dict[tuple[str, str], Point],
) -> Iterator[Point]:
    """List the trials: each method's at the first value of what is not tuned by itself."""
    kept = {axis: v if axis in search.per else v[:1] for axis, v in stage.vary.items()}
    kept[SEED] = (search.seed,)
    narrow = replace(stage, vary=kept)
    for values in combinations(narrow):
        group = tuple(values[axis] for axis in search.per)
        for number in range(search.trials):
            yield _point(study, narrow, values, found, at, group=group, trial=number)


def _point(
    study: Study,
    stage: Stage,
    values: Mapping[str, Any],
    found: dict[str, Point],
    at: dict[tuple[str, str], Point],
    group: tuple[Any, ...] | None = None,
    trial: int | None = None,
) -> Point:
    configs, options = list(stage.configs), dict(stage.options)
    for axis, value in values.items():
        if axis in stage.overlays:
            overlay = stage.overlays[axis][value]
            configs += overlay.configs
            options |= overlay.options
        else:
            options[axis] = value
    for axis, cases in stage.exceptions.items():
        for value, more in cases.items():
            options |= more if key_of(value) == key_of(values[axis]) else {}
    named = _named_by(study, stage, options)
    ever = set(REFERENCE.findall(json.dumps(dict(stage.options), default=str)))
    needs: dict[str, str] = {}
    for other, wanted in stage.needs.items():
        if other in ever and other not in named:
            continue  # left out by an exception
        theirs = study.stages[other]
        there = {
            axis: (values[axis] if wanted[axis] == SAME else wanted[axis])
            if axis in wanted
            else theirs.vary[axis][0]
            for axis in theirs.vary
        }
        needed = at.get((other, key_of(there)))
        if needed is None:  # a trial's seed, which the stage does not have
            needed = _point(study, theirs, there, found, at)
            at[other, key_of(there)] = needed
            found.setdefault(needed.name, needed)
        needs[other] = needed.name
    # the folder of the data counts only if an axis sets it
    more = {} if (places := _places(stage, values)) is None else {"places": places}
    settings = merged(configs, options)
    digest = hash_of(
        settings,
        needs=sorted(found[name].hash for name in needs.values()),
        search=None
        if group is None or study.search is None
        else [repr(study.search), trial, list(group)],
        **more,
    )
    return Point(
        stage.name,
        dict(values),
        tuple(configs),
        options,
        needs,
        digest,
        hash_of(settings),
        group,
        trial,
    )


def _named_by(study: Study, stage: Stage, options: Mapping[str, Any]) -> set[str]:
    """Return the stages whose runs options refer to.

    Raises:
        ValueError: If one is not needed, or another thing than its best checkpoint is named.
    """
    text = json.dumps(list(options.values()), default=str)
    for other, what in _REFERENCE_LIKE.findall(text):
        if other in study.stages and what != "best":
            raise ValueError(
                f"stage {stage.name!r} refers to {{{other}.{what}}}; of a stage's runs only "
                f"{{{other}.best}} is known."
            )
    named = set(REFERENCE.findall(text))
    if unknown := named - {*stage.needs}:
        raise ValueError(
            f"stage {stage.name!r} refers to {{{min(unknown)}.best}} and does not need it; add "
            f"`needs: {{{min(unknown)}: ...}}`."
        )
    return named


def _places(stage: Stage, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the options that hashes leave out and an axis sets; ``None`` without any."""
    given: dict[str, Any] = {}
    for axis, value in values.items():
        given |= stage.overlays[axis][value].options if axis in stage.overlays else {axis: value}
    return {key: value for key, value in given.items() if key in FREE} or None


def _short(axis: str, value: object) -> str:
    name = axis.rsplit(".", 1)[-1]
    name = "seed" if name == SEED else name
    if isinstance(value, Mapping):
        value = value.get("class_path", "-".join(map(str, value.values())))
        value = str(value).rsplit(".", 1)[-1]
    return f"{name}={value}"
