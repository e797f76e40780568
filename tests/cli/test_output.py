"""Which folder a verb writes to, and what stays of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from jsonargparse import Namespace as Untyped
from lightning.pytorch.loggers import CSVLogger

from tl.cli.output import Output, pictures_named
from tl.runs.logs import RunCSV, RunFolder, RunTensorBoard

Namespace: Any = Untyped


def config(folder: Path, **trainer: Any) -> Any:
    given = Namespace(logger=None, fast_dev_run=False)
    given.update(Namespace(**trainer))
    return Namespace(log_dir=str(folder), name="a", trainer=given)


def at_step(step: int) -> Any:
    return cast("Any", SimpleNamespace(global_step=step))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that is evaluated."""
    folder = tmp_path / "a" / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").touch()
    (folder / "checkpoints" / "best.ckpt").touch()
    return folder


def test_every_fit_has_a_new_folder(tmp_path: Path) -> None:
    for number in range(2):
        output = Output(config(tmp_path), "fit", None)
        kinds = [type(logger) for logger in output.loggers(None)]
        assert kinds == [RunTensorBoard, RunCSV]
        assert output.new == tmp_path / "a" / f"version_{number}"


def test_an_evaluation_writes_to_the_runs_own(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    output = Output(config(tmp_path), "test", checkpoint)
    folder, board = output.loggers(None)
    assert isinstance(folder, RunFolder)
    assert board.log_dir == str(run / "test")
    assert output.new is None
    (run / "test").mkdir()
    output.drop_if_empty(None, 0)  # it came to no end
    assert not (run / "test").exists()
    assert checkpoint.exists()
    [only] = Output(config(tmp_path), "predict", checkpoint).loggers(None)
    assert isinstance(only, RunFolder)


def test_a_run_that_cannot_be_written_to_is_not_evaluated(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = run / "checkpoints" / "best.ckpt"
    monkeypatch.setattr("os.access", lambda path, _: path != run)  # also as root
    with pytest.raises(ValueError, match=r"version_0 cannot be written to.* evaluate a copy"):
        Output(config(tmp_path), "test", checkpoint)
    Output(config(tmp_path), "predict", checkpoint)  # its file may go elsewhere
    Output(config(tmp_path), "fit", checkpoint)


def test_a_checkpoint_of_no_run_is_evaluated_in_a_new_folder(tmp_path: Path) -> None:
    output = Output(config(tmp_path), "test", tmp_path / "moved.ckpt")
    output.loggers(None)
    assert output.new == tmp_path / "a" / "version_0"


@pytest.mark.parametrize(
    ("step", "start", "saved", "stays"),
    [(0, 0, False, False), (7, 7, False, False), (8, 7, False, True), (0, 0, True, True)],
)
def test_a_folder_stays_once_a_step_is_trained_or_a_checkpoint_saved(
    step: int, start: int, saved: bool, stays: bool, tmp_path: Path
) -> None:
    output = Output(config(tmp_path), "fit", None)
    output.loggers(None)
    assert output.new is not None
    if saved:
        (output.new / "last.ckpt").touch()
    output.drop_if_empty(at_step(step), start)
    assert output.new.exists() == stays


def test_a_refused_run_leaves_none_of_the_folders_that_it_made(tmp_path: Path) -> None:
    new = tmp_path / "runs" / "of" / "today"
    first, second = (Output(config(new), "fit", None) for _ in range(2))
    first.loggers(None)
    second.loggers(None)
    first.drop_if_empty(None, 0)
    assert [path.name for path in new.rglob("version_*")] == ["version_1"]
    second.drop_if_empty(None, 0)  # the first made the folders above
    assert list(new.iterdir()) == [new / "a"]
    alone = Output(config(tmp_path / "more" / "runs"), "fit", None)
    alone.loggers(None)
    alone.drop_if_empty(None, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_logger_of_the_users_is_told_where_and_its_settings_can_be_put_back(
    tmp_path: Path,
) -> None:
    given = Namespace(save_dir=None, name="lightning_logs", version=None)
    logger = Namespace(class_path="lightning.pytorch.loggers.CSVLogger", init_args=given)
    output = Output(config(tmp_path, logger=[logger]), "fit", None)
    [(settings, before)] = output.settle_loggers()
    assert (settings.save_dir, settings.name, settings.version) == (str(tmp_path), "a", 0)
    assert (before.save_dir, before.name, before.version) == (None, "lightning_logs", None)
    theirs = CSVLogger(tmp_path)
    first, second = output.loggers([theirs])
    assert isinstance(first, RunFolder)
    assert second is theirs


def test_a_task_that_no_sample_has_a_target_of_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Output(config(tmp_path), "test", run / "checkpoints" / "best.ckpt")
    samples = {"test": {"a": 3, "b/dataloader_idx_1": 2, "c": 0}}
    module = SimpleNamespace(samples=samples, tasks=dict.fromkeys("abcd"))
    state = SimpleNamespace(fn="test")
    output.report_scores(
        cast("Any", SimpleNamespace(fast_dev_run=False, lightning_module=module, state=state))
    )
    said = capsys.readouterr().out
    assert "tl: no test sample has a target for c, d, so they have no score." in said


def test_services_are_logged_to_beside_tensorboard(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, asked = CSVLogger(tmp_path), []

    def made(names: list[str], folder: Path, runs: Path) -> list[CSVLogger]:
        asked.append((names, folder, runs))
        return [theirs]

    monkeypatch.setattr("tl.cli.output.asked_services", lambda names: names.split(","))
    monkeypatch.setattr("tl.cli.output.service_loggers", made)
    given = config(tmp_path)
    given.log = "wandb,mlflow"
    output = Output(given, "fit", None)
    kinds = [type(logger) for logger in output.loggers(None)]
    assert kinds == [RunTensorBoard, RunCSV, CSVLogger]
    assert asked == [(["wandb", "mlflow"], output.new, tmp_path)]
    assert Output(given, "fit", None).loggers(False)[1:] == [theirs]
    evaluated = Output(given, "test", run / "checkpoints" / "best.ckpt")
    assert evaluated.loggers(None)[2:] == [theirs]
    assert asked[-1][1] == run
    assert len(Output(given, "predict", run / "checkpoints" / "best.ckpt").loggers(None)) == 1


def test_a_run_names_its_pictures(tmp_path: Path) -> None:
    assert pictures_named(tmp_path) == []
    for number in range(10):
        (tmp_path / f"confusion_of_{number}.png").touch()
    lines = pictures_named(tmp_path)
    assert all(len(line) <= 100 and line.startswith("  ") for line in lines)
    said = " ".join(line.strip() for line in lines)
    assert said.startswith("confusion_of_0.png, confusion_of_1.png, ")
    assert said.endswith("confusion_of_7.png, 2 more")
