from __future__ import annotations

import csv
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tl.reading import shown
from tl.runs.logs import RunCSV, RunTensorBoard


@contextmanager
def no_room() -> Iterator[None]:
    """Writing beyond 3000 bytes fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The logged lines."""
    said: list[str] = []
    monkeypatch.setattr("tl.runs.logs.rank_zero_info", said.append)
    return said


def test_with_room_they_are_as_lightnings(tmp_path: Path, lines: list[str]) -> None:
    board, table = RunTensorBoard(tmp_path, "a", 0), RunCSV(tmp_path, "a", 0)
    for logger in (board, table):
        logger.log_metrics({"loss": 0.5}, 3)
        logger.save()
        logger.finalize("success")
    read = EventAccumulator(str(tmp_path / "a" / "version_0")).Reload()
    [event] = read.Scalars("loss")
    assert (event.step, event.value) == (3, 0.5)
    with (tmp_path / "a" / "version_0" / "metrics.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"loss": "0.5", "step": "3"}]
    assert not lines


@pytest.mark.filterwarnings("error")  # of a thread that died
def test_without_room_the_run_goes_on_and_one_line_says_it(
    tmp_path: Path, lines: list[str]
) -> None:
    board, table = RunTensorBoard(tmp_path, "a", 0), RunCSV(tmp_path, "a", 0)
    table.log_metrics({"loss": 0.5}, 0)
    table.save()
    with no_room():
        for step in range(1, 400):
            for logger in (board, table):
                logger.log_metrics({"loss": 0.5}, step)
            table.save()
        board.experiment.flush()
    assert len(lines) == 2
    assert any(f"tl: {tmp_path}/a/version_0/events.out.tfevents" in line for line in lines)
    assert any("metrics.csv: File too large. The log has gaps." in line for line in lines)
    board.finalize("success")
    table.finalize("success")


def test_a_table_that_did_not_fit_is_whole_once_there_is_room(
    tmp_path: Path, lines: list[str]
) -> None:
    table = RunCSV(tmp_path, "a", 0)
    path = tmp_path / "a" / "version_0" / "metrics.csv"
    wanted: list[dict[str, str]] = []

    def log(name: str, count: int) -> None:
        for _ in range(count):
            table.log_metrics({name: 0.5}, len(wanted))
            wanted.append({name: "0.5", "step": str(len(wanted))})

    def read() -> list[dict[str, str]]:
        with path.open() as file:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]

    with no_room():
        log("a", 1000)  # more than fits; they are written by the hundred
        table.save()
        assert read() == wanted[: len(read())]
        assert len(read()) < 1000
    table.save()
    assert read() == wanted
    whole = list(wanted)
    for name in ("a", "b"):  # half a row; a new column, for which the file is written anew
        with no_room():
            log(name, 1)
            table.save()
        assert read() == whole
        table.save()
        assert read() == (whole := list(wanted))
    assert len(lines) == 1


def test_a_path_far_away_is_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert shown(here / "logs" / "best.ckpt") == "logs/best.ckpt"
    assert shown("logs") == "logs"
    assert shown("..logs") == "..logs"
    assert shown("../c") == str(tmp_path / "a" / "c")
    assert shown(tmp_path / "c") == str(tmp_path / "c")
