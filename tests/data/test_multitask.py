from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tl.data import (
    CifarDataModule,
    DataError,
    GeneratedDataModule,
    MultiTaskDataModule,
    TextDataModule,
)


def two(**settings: Any) -> MultiTaskDataModule:
    sources = {
        "small": GeneratedDataModule(classes=10, train_size=100, test_size=30),
        "large": GeneratedDataModule(classes=100, train_size=400, test_size=100, targets="both"),
    }
    made = MultiTaskDataModule(sources=sources, **{"batch_size": 20, "val_size": 0.5, **settings})
    made.setup("fit")
    made.setup("test")
    return made


def test_common_settings_reach_sources_that_do_not_set_them() -> None:
    own = CifarDataModule("cifar10", root="mine", offline="error")
    other = CifarDataModule("cifar100")
    MultiTaskDataModule(
        sources={"a": own, "b": other},
        root="common",
        offline="generated",
        generated_size=300,
        label_fraction=0.5,
    )
    assert (own.settings.root, own.offline, own.generated_size) == ("mine", "error", 300)
    assert (other.settings.root, other.offline, other.generated_size) == (
        "common",
        "generated",
        300,
    )
    assert own.settings.label_fraction == other.settings.label_fraction == 0.5


def test_tasks_name_their_source_and_target() -> None:
    made = two()
    counts = made.num_classes
    assert [(t.name, t.source, t.target, counts[t.name]) for t in made.tasks] == [
        ("small", "small", None, 10),
        ("large_fine", "large", "fine", 100),
        ("large_coarse", "large", "coarse", 20),
    ]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="`sources` is empty"):
        MultiTaskDataModule(sources={})
    for wrong in (0, -3, 2.5, "long"):
        with pytest.raises(ValueError, match=f"`epoch_length` must be 'longest', .* got {wrong!r}"):
            two(epoch_length=wrong)


def test_a_state_of_other_sources_is_refused() -> None:
    made = two()
    state = made.state_dict()
    del state["small"]
    with pytest.raises(DataError, match="has the sources large; this run has small, large"):
        made.load_state_dict(state)


@pytest.mark.parametrize("length", [0, "long", 1.5])
def test_the_length_of_an_epoch_is_checked_later_too(length: Any) -> None:
    data = MultiTaskDataModule(sources={"a": GeneratedDataModule()})
    with pytest.raises(ValueError, match="`epoch_length` must be"):
        data.epoch_length = length
    assert data.epoch_length == "longest"
    with pytest.raises(ValueError, match="`sources` is empty"):
        data.sources = {}
    data.sources = {"z": GeneratedDataModule()}
    assert [task.name for task in data.tasks] == ["z"]


def domains(**options: Any) -> MultiTaskDataModule:
    sources = {
        "seen": GeneratedDataModule(classes=10, train_size=40, test_size=10),
        "unseen": GeneratedDataModule(classes=10, train_size=400, test_size=10, seed=1),
    }
    given = {"sources": sources, "shares": {"unseen": "seen"}, "trains": {"unseen": False}}
    return MultiTaskDataModule(**{**given, "batch_size": 20, "val_size": 0.5, **options})


def test_a_source_that_only_evaluates_is_not_read_in_training() -> None:
    made = domains()
    made.setup("fit")
    assert [(task.shares, task.trains) for task in made.tasks] == [(None, True), ("seen", False)]
    assert made.train_steps() == 1  # the longest of those that train
    assert [list(batch) for batch, _, _ in made.train_dataloader()] == [["seen"]]
    assert {name for batch, _, _ in made.val_dataloader() for name in batch} == {"seen", "unseen"}
    made.trains = None
    assert made.train_steps() == 10


def test_relations_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(ValueError, match="`shares` names 'unsen', which is not a task of the data"):
        _ = domains(shares={"unsen": "seen"}).tasks
    with pytest.raises(ValueError, match="`trains` names 'other', which is not a task of the data"):
        _ = domains(trains={"other": False}).tasks
    large = GeneratedDataModule(classes=100, train_size=400, targets="coarse")
    with pytest.raises(ValueError, match=r"'unseen' has the classes .*; 'seen', whose head"):
        _ = domains(sources={"seen": GeneratedDataModule(), "unseen": large}).tasks


def test_tasks_without_classes_share_a_head(tmp_path: Path) -> None:
    rows = "".join(f"a text of {i},{i}\n" for i in range(10))
    (tmp_path / "marks.csv").write_text(f"text,mark\n{rows}")
    file = str(tmp_path / "marks.csv")
    made = MultiTaskDataModule(
        sources={n: TextDataModule(file, targets={"mark": "number"}) for n in ("seen", "unseen")},
        shares={"unseen": "seen"},
        trains={"unseen": False},
    )
    assert [(task.shares, task.trains) for task in made.tasks] == [(None, True), ("seen", False)]


@pytest.mark.parametrize("option", [{"download": True}, {"offline": "error"}, {"images": "real"}])
def test_options_that_no_source_has_are_refused(option: Any) -> None:
    [name] = option
    with pytest.raises(ValueError, match=f"`{name}` would have no effect: GeneratedDataModule lac"):
        MultiTaskDataModule(sources={"a": GeneratedDataModule()}, **option)
    MultiTaskDataModule(sources={"a": GeneratedDataModule(), "b": CifarDataModule()}, **option)
