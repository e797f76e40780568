"""Several data sources as one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from tl.data.base import ImageDataModule
from tl.data.errors import DataError, listed
from tl.data.joint_loaders import JointLoaders
from tl.data.options import check_options, refuse_misspelt
from tl.data.overlaps import warn_of_shared_samples
from tl.data.settings import SharedOptions, StandInOptions
from tl.data.sources import (
    Source,
    as_sources,
    check_tokenizers,
    claim,
    refuse_idle,
    share_tokenizer,
)
from tl.tasks import Task, with_relations

_OWN = ("sources", "epoch_length", "shares", "trains")  # all other options belong to the sources


@dataclass(kw_only=True, eq=False)
class MultiTaskDataModule(StandInOptions, SharedOptions, JointLoaders):
    """Several sources in one run: every training step holds a batch of each.

    Batches are dicts ``{source: (images, targets)}``. In evaluation an exhausted source is
    ``None``, and every image of every source occurs exactly once.

    All options besides `sources`, `epoch_length`, `shares` and `trains` apply to the sources that
    do not set their own.

    Args:
        sources: Data modules by the name of the source. A source with one target defines a task of
            its name; one with several defines ``<source>_<target>``. To add or replace one later,
            assign a whole dict.
        epoch_length: Steps of a training epoch: one pass over the ``longest`` source, recycling the
            others in a new order each time; one pass over the ``shortest``; or a number of steps.
        shares: By task, another task whose head it uses, as ``{photos: drawings}`` to evaluate in a
            second domain. Both must have the same classes. Images whose labels do not train are
            normalised like the source of that head.
        trains: By task, whether its labels train; ``{photos: false}`` only evaluates it. A source
            of which no task trains is not read in training, unless it has ``labels: none``: its
            inputs are then part of every step, and its tasks do not train.
        tokenizer: Tokenizer of sources of text, as for `TextDataModule`; by default one is trained
            on the training texts of all of them.

    Raises:
        TypeError: If a source is not a data module of a single source.
        ValueError: If there is no source, one has two names, `epoch_length` is not positive, or
            sources of text are given an option of images.
    """

    sources: Mapping[str, Source] = field(kw_only=False)
    epoch_length: Literal["longest", "shortest"] | int = field(default="longest", kw_only=False)
    shares: dict[str, str] | None = None
    trains: dict[str, bool] | None = None
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._check()
        self._hand_down()

    def _check(self) -> None:
        check_options(self)
        if not self.sources:
            raise ValueError("`sources` is empty; give at least one data module by name.")
        if len(set(map(id, self.sources.values()))) < len(self.sources):
            raise ValueError(
                f"One data module has two names in `sources`: {', '.join(self.sources)}; give "
                "each name its own data module."
            )
        length = self.epoch_length
        if length not in ("longest", "shortest") and not (isinstance(length, int) and length >= 1):
            raise ValueError(
                "`epoch_length` must be 'longest', 'shortest' or a number of steps, 1 or more, got "
                f"{length!r}."
            )

    def _hand_down(self) -> None:
        """Pass the settings to sources that do not set their own."""
        claim(self, self.sources)
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _OWN}
        given = {key: value for key, value in given.items() if value is not None}
        refuse_idle(self.sources, given)
        for name, source in self.sources.items():
            source.data_name = name
            source.inherit(**given)
        share_tokenizer(self.sources)
        self._handed_down = True

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - whatever it is
        """Set an attribute; a setting is passed to sources that do not set their own.

        Raises:
            AttributeError: If the name is a misspelt setting.
            TypeError: If the value does not have the setting's type.
            ValueError: If the value is out of range, or no source accepts it; the old value stays.
        """
        if name == "sources":
            value = as_sources(value)
        if "_handed_down" not in self.__dict__ or name not in self.__dataclass_fields__:
            if "_handed_down" in self.__dict__:
                refuse_misspelt(self, name, self.__dataclass_fields__)
            super().__setattr__(name, value)
            return
        if name not in _OWN and value != getattr(self, name) and not self.takes(name):
            raise ValueError(
                f"`{name}` would have no effect: no source inherits it. Set it in a source, such "
                f"as `data.sources[{next(iter(self.sources))!r}].{name} = {value!r}`."
            )
        before = getattr(self, name)
        super().__setattr__(name, value)
        try:
            self._check()
            self._hand_down()
        except (TypeError, ValueError):
            super().__setattr__(name, before)
            self._hand_down()
            raise

    def takes(self, name: str) -> bool:
        """Return whether a source inherits a setting: it has it and does not set it."""
        return any(source.takes(name) for source in self.sources.values())

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All sources' tasks, in the order of the sources.

        Raises:
            ValueError: If `shares` or `trains` names another task, or tasks of other classes share
                a head.
        """
        published = tuple(
            task.read_from(name) for name, source in self.sources.items() for task in source.tasks
        )
        trains = dict(self.trains or {})
        for each in published:
            if each.source in self.withheld_sources and each.supervised:
                self._check_withheld(each)
                trains[each.name] = False
        found = with_relations(published, self.shares or {}, trains)
        names = self.class_names if self.shares else {}
        for task, other in (self.shares or {}).items():
            if task in names and other in names and names[task] != names[other]:
                own, theirs = ({*names[each]} for each in (task, other))
                raise ValueError(
                    f"Task {task!r} has the classes {listed(names[task], 5)}; {other!r}, whose "
                    f"head it shares, has {listed(names[other], 5)}. One head needs the same "
                    f"classes in the same order; only the first has "
                    f"{listed(sorted(own - theirs), 5) or 'none'}, only the second "
                    f"{listed(sorted(theirs - own), 5) or 'none'}."
                )
        return found

    @property
    def withheld_sources(self) -> tuple[str, ...]:
        """Sources whose labels training does not see: ``labels: none``."""
        found = (n for n, s in self.sources.items() if getattr(s, "labels", "all") == "none")
        return tuple(found)

    def _check_withheld(self, task: Task) -> None:
        if (self.trains or {}).get(task.name):
            raise ValueError(
                f"`trains` is true for the task {task.name!r}, whose source {task.source!r} has "
                "`labels: none`: training would see its labels. Remove one of them."
            )
        if task.name not in (self.shares or {}):
            raise ValueError(
                f"The source {task.source!r} has `labels: none`, so nothing trains a head of task "
                f"{task.name!r}; name the task whose head it uses, as in `shares: {{{task.name}: "
                "<task of a labelled source>}`."
            )

    @property
    def task(self) -> Task | None:
        """The only task; ``None`` if there are several."""
        return self.tasks[0] if len(self.tasks) == 1 else None

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, in the order of the labels."""
        return {t: names for s in self.sources.values() for t, names in s.class_names.items()}

    @property
    def task_groups(self) -> dict[str, dict[str, str]]:
        """The group of each class by name, for each task on groups."""
        return {t: groups for s in self.sources.values() for t, groups in s.task_groups.items()}

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes by task."""
        return {name: len(classes) for name, classes in self.class_names.items()}

    # Loading

    def prepare_data(self) -> None:
        """Prepare each source: download, unpack."""
        for source in self.sources.values():
            source.trainer = self.trainer
            source.prepare_data()

    def setup(self, stage: str) -> None:
        """Load each source.

        Raises:
            DataError: If a source cannot be loaded.
        """
        labelled = self._labelled()
        for name in sorted(self.sources, key=lambda each: each in labelled):
            source = self.sources[name]
            source.trainer = self.trainer
            if isinstance(source, ImageDataModule):
                other = self.sources.get(labelled.get(name, ""))
                source.follow(other if isinstance(other, ImageDataModule) else None)
            source.setup(stage)
        check_tokenizers(self.sources)
        if stage == "fit":
            warn_of_shared_samples(self.sources, self.trained_sources)

    def _labelled(self) -> dict[str, str]:
        """Return by source that does not train its labels another, whose head it uses."""
        if not self.shares:
            return {}
        try:
            tasks = {n: {task.name for task in source.tasks} for n, source in self.sources.items()}
        except DataError:  # of classes that a checkpoint may know; `setup` of the source decides
            return {}
        source_of = {task: name for name, own in tasks.items() for task in own}
        idle = {task for task, trains in (self.trains or {}).items() if not trains}
        used = {
            source_of[task]: source_of[other]
            for task, other in self.shares.items()
            if task in source_of and other in source_of
        }
        return {
            name: other
            for name, other in used.items()
            if name != other and (name in self.withheld_sources or tasks[name] <= idle)
        }

    @property
    def waits(self) -> bool:
        """Whether an evaluation needs its checkpoint to replace missing data."""
        return any(source.waits for source in self.sources.values())

    def teardown(self, stage: str) -> None:
        """End each source."""
        for source in self.sources.values():
            source.teardown(stage)

    # What was loaded

    @property
    def fingerprint(self) -> str:
        """The sources' fingerprints by name, as one string."""
        return ", ".join(f"{name}={s.fingerprint}" for name, s in self.sources.items())

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data by source, in plain types."""
        return {name: source.describe() for name, source in self.sources.items()}

    def adopt(self, record: Mapping[str, Any]) -> bool:
        """Evaluate each source as a checkpoint was trained; see `ImageDataModule.adopt`.

        Args:
            record: The result of `describe` when the checkpoint was written.

        Returns:
            Whether this changes anything: `setup` has to load again.

        Raises:
            DataError: If the checkpoint has other sources, targets or classes.
        """
        changed = [source.adopt(record, len(self.sources)) for source in self.sources.values()]
        return any(changed)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must match, by source."""
        return {name: source.state_dict() for name, source in self.sources.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other data; evaluate as the checkpoint was trained.

        Raises:
            DataError: If the sources, fingerprints or classes differ from the checkpoint's.
        """
        if set(state_dict) != set(self.sources):
            raise DataError(
                f"The checkpoint's run has the sources {', '.join(state_dict)}; this run has "
                f"{', '.join(self.sources)}."
            )
        for name, source in self.sources.items():
            source.load_state_dict(state_dict[name])
