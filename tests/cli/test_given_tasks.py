from __future__ import annotations

import pytest
from jsonargparse import Namespace

from tl.cli.given_tasks import GivenTasks
from tl.tasks import Regression


def configuration(data: str, tasks: object) -> Namespace:
    found = Namespace()  # type: ignore[no-untyped-call]
    found["data.class_path"] = data
    found["model.class_path"] = "tl.modules.MultiTaskModule"
    found["model.init_args.tasks"] = tasks
    return found


def test_tasks_are_built_for_data_without_any() -> None:
    given = GivenTasks()
    task = {"class_path": "tl.tasks.Regression", "init_args": {"name": "a"}}
    given.take(configuration("lightning.LightningDataModule", [task]))
    assert given.of("tasks") == [Regression("a")]


def test_tasks_of_the_data_are_not_set_again() -> None:
    with pytest.raises(ValueError, match=r"init_args\.tasks` follows from the data"):
        GivenTasks().take(configuration("tl.data.CifarDataModule", [{"name": "a"}]))


def test_a_model_that_needs_tasks_says_how_to_give_them() -> None:
    given = GivenTasks()
    given.take(configuration("lightning.LightningDataModule", None))
    with pytest.raises(ValueError, match=r"declares no tasks; set `model\.init_args\.tasks`"):
        given.of("tasks")
