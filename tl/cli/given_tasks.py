"""Tasks that the user sets for data that declare none."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from jsonargparse import Namespace

from tl.cli.nulls import imported


class GivenTasks:
    """The user's tasks, from the configuration until the data are asked for theirs."""

    def __init__(self) -> None:
        self._tasks: dict[str, object] = {}  # by argument of the model
        self._takes: dict[str, bool] = {}  # whether the model has that argument

    def take(self, config: Any) -> None:  # noqa: ANN401 - jsonargparse's namespace
        """Read a configuration.

        Raises:
            ValueError: If it sets tasks that the data have.
        """
        for key in ("task", "tasks"):
            given = config.get(f"model.init_args.{key}")
            if given and hasattr(imported(config.data.class_path), key):
                raise ValueError(
                    f"`model.init_args.{key}` follows from the data; remove it. The "
                    "data's options, such as `targets`, `shares` and `trains`, change its tasks."
                )
            self._tasks[key] = given
            model = cast("Any", imported(config.model.class_path))
            self._takes[key] = key in inspect.signature(model).parameters

    def of(self, key: str) -> object:
        """Return the user's tasks, for data that declare none.

        Args:
            key: Argument of the model, ``task`` or ``tasks``.

        Raises:
            ValueError: If the model needs them and there are none.
        """
        given = self._tasks.get(key)
        if self._takes[key] and not given:
            example = "{class_path: tl.tasks.Classification, init_args: {name: a, num_classes: 2}}"
            raise ValueError(
                f"The data module declares no tasks; set `model.init_args.{key}`, such as "
                f"{f'[{example}]' if key == 'tasks' else example}."
            )
        return [_task(each) for each in given] if isinstance(given, list) else _task(given)


def _task(given: Any) -> object:  # noqa: ANN401 - as the parser has it
    """Build a task from its class path; the model builds one given by fields."""
    path = given.get("class_path") if isinstance(given, Namespace | Mapping) else None
    if path is None:
        return given.as_dict() if isinstance(given, Namespace) else given
    options = given.get("init_args") or {}
    kind = cast("Any", imported(path))
    return kind(**(options.as_dict() if isinstance(options, Namespace) else options))
