"""Loggers of services: the real MLflow in a folder, the real Weights & Biases offline."""

from __future__ import annotations

import json
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.small import module, tiny_data, trainer
from tl.callbacks.dashboard import Dashboard
from tl.runs import services
from tl.runs.logs import RunFolder
from tl.runs.services import SERVICES, RunMLflow, RunWandb, asked_services, service_loggers

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="pip install mlflow-skinny")
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="pip install wandb")
PICTURES = [f"val/{what}/generated10" for what in ("classes", "confusion")]


def test_a_name_that_is_not_known_is_refused() -> None:
    assert asked_services("tensorboard, csv,") == asked_services("") == []
    with pytest.raises(
        ValueError, match="no logger 'wanbd'; choose from tensorboard, csv, wandb, mlflow"
    ):
        asked_services("tensorboard,wanbd")


@pytest.mark.parametrize("name", SERVICES)
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=f"needs {name}: pip install {name}"):
        asked_services(f"csv,{name}")


def logged(folder: Path, name: str, *, test: bool = True) -> Any:
    """Train in a run's folder, and test it with new loggers, as another command does."""
    data = tiny_data()
    ours = module(data)
    runs = folder.parents[1]
    dashboard = Dashboard(1, 0, 4, graph=False)
    for verb in ("fit", "test")[: 1 + test]:
        [logger] = service_loggers([name], folder, runs)
        run = trainer(
            folder, logger=[RunFolder(folder), logger], callbacks=[dashboard], max_epochs=1
        )
        getattr(run, verb)(ours, data)
    return logger


@needs_mlflow
def test_mlflow_gets_metrics_pictures_and_texts_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # what is set is put back
        monkeypatch.delenv(name)
    folder = tmp_path / "all runs" / "mine" / "version_3"
    folder.mkdir(parents=True)
    logger = logged(folder, "mlflow")
    assert isinstance(logger, RunMLflow)
    client = import_module("mlflow").MlflowClient((tmp_path / "all runs" / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("mine")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "version_3"
    assert run.info.status == "FINISHED"
    assert {"val/acc", "val/generated10/acc", "test/acc"} <= {*run.data.metrics}
    assert run.data.params["run/backbone"] == "Tiny"
    assert json.loads((folder / "loggers.json").read_text()) == {"mlflow": run.info.run_id}
    place = Path(run.info.artifact_uri.removeprefix("file://").replace("%20", " "))
    texts = {path.relative_to(place).as_posix() for path in place.rglob("*.md")}
    assert {"text/run/versions.md", "text/val/classes/generated10_5.md"} <= texts
    images = [re.sub("[#~]", "/", path.name) for path in place.rglob("*.png")]
    for tag in (*PICTURES, *(tag.replace("val/", "test/") for tag in PICTURES)):
        assert any(tag in image for image in images), tag


@needs_wandb
def test_weights_and_biases_gets_them_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    folder = tmp_path / "runs" / "mine" / "version_0"
    folder.mkdir(parents=True)
    logger = logged(folder, "wandb")
    assert isinstance(logger, RunWandb)
    assert import_module("wandb").run is None, "the next run of this process is its own"
    number = json.loads((folder / "loggers.json").read_text())["wandb"]
    [first, second] = sorted(folder.glob("wandb/offline-run-*"))
    assert {first.name[-12:], second.name[-12:]} == {number}, "the test continues the run"
    pictures = [path.relative_to(first / "files").as_posix() for path in first.rglob("*.png")]
    for tag in (*PICTURES, "train/augmented"):
        assert any(f"media/images/{tag}" in each for each in pictures), tag
    assert any("val/classes/generated10/text" in str(path) for path in first.rglob("*.html"))
    assert any("test/confusion/generated10" in str(path) for path in second.rglob("*.png"))
    [record] = first.glob("*.wandb")
    content = record.read_bytes()
    assert all(name in content for name in (b"val/generated10/acc", b"mine/version_0", b"runs"))
