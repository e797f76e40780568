"""`tl.fit` runs what the command line runs."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tl
from tests.images import class_folders
from tl.cli import fitting
from tl.data import FolderDataModule, MultiTaskDataModule, TextDataModule
from tl.data.images.augment import Augment
from tl.serving.run import Run

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "trainer": {"enable_progress_bar": False, "enable_model_summary": False},
    "dashboard": {"graph": False, "every_n_epochs": 0},
    "throughput.mfu": False,
}


def configuration(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((run.folder / "config.yaml").read_text())
    return found


def test_a_folder_and_options(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    root = class_folders(tmp_path / "photos")
    logs = {"log_dir": tmp_path / "logs", **QUIET}
    run = tl.fit(root, epochs=2, batch_size=8, lr=0.002, data={"val_size": 0.3}, **logs)
    assert run.folder == tmp_path / "logs" / "photos" / "version_0"
    found = configuration(run)
    assert found["trainer"]["max_epochs"] == 2
    assert found["data"]["init_args"]["val_size"] == 0.3
    assert found["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.002
    assert list(run.history["epoch"]) == [0, 1]
    assert run.model.predict(root / "red" / "0.png").label in ("blue", "green", "red")
    assert signal.getsignal(signal.SIGTERM) is before
    again = tl.fit(root, source=run.folder, strategy="linear_probe", epochs=1, name="probe", **logs)
    weights = [each.model.module.backbone.state_dict() for each in (run, again)]
    convolution = next(iter(weights[0]))
    torch.testing.assert_close(weights[1][convolution], weights[0][convolution])
    with pytest.raises(ValueError, match="unknown option --epoch"):
        tl.fit(root, epoch=2, **logs)
    with pytest.raises(ValueError, match=r"`trainer\.max_epochs` is 0: nothing would be trained"):
        tl.fit(root, epochs=0, **logs)


def test_a_table_by_from_csv(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in root.rglob("*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["file,breed", *rows]))
    data = tl.from_csv(tmp_path / "labels.csv", image="file", tasks="breed", size=16)
    run = tl.fit(data, epochs=1, log_dir=tmp_path / "logs", **QUIET)
    assert configuration(run)["data"]["init_args"]["targets"] == "breed"
    assert configuration(run)["data"]["init_args"]["size"] == 16
    assert run.model.evaluate(tmp_path / "labels.csv").samples == 6
    assert run.model.class_names == ["blue", "green", "red"]


def arguments(monkeypatch: pytest.MonkeyPatch, *given: Any, **options: Any) -> list[str]:
    """Return what the command line is given."""
    seen: list[str] = []
    monkeypatch.setattr(fitting, "run_command", seen.extend)
    monkeypatch.setattr(fitting, "_folder", lambda _: Path())
    fitting.fit(*given, **options)
    return seen


def test_configurations_and_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    found = arguments(
        monkeypatch,
        "a.yaml",
        {"name": "x"},
        backbone="tl.backbones.ResNet18",
        resume="auto",
        model={"label_smoothing": 0.1, "strategy": None},
        data={"class_path": "my.Data"},
    )
    assert found == [
        *("fit", "--config=a.yaml", '--config={"name": "x"}'),
        *("--model.init_args.backbone=tl.backbones.ResNet18", "--resume=auto"),
        *("--model.init_args.label_smoothing=0.1", "--model.init_args.strategy=null"),
        '--data={"class_path": "my.Data"}',
    ]


@pytest.mark.parametrize(
    ("balancer", "option"),
    [
        ("pcgrad", "--balancer=pcgrad"),  # as the command line has it
        ("tl.balancing.GradNorm", "--model.init_args.balancer=tl.balancing.GradNorm"),
        ("GradNorm", "--model.init_args.balancer=GradNorm"),  # which the parser finds too
        (None, "--model.init_args.balancer=null"),
    ],
)
def test_a_balancer_goes_by_name_or_class(
    monkeypatch: pytest.MonkeyPatch, balancer: str | None, option: str
) -> None:
    assert arguments(monkeypatch, "a.yaml", balancer=balancer) == ["fit", "--config=a.yaml", option]


def test_data_modules_are_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = {
        "a": FolderDataModule(root=str(tmp_path), size=48, augment=Augment(padding=2)),
        "b": FolderDataModule(folder="b"),
    }
    data = MultiTaskDataModule(sources, batch_size=16)
    [_, configuration] = arguments(monkeypatch, data)
    written = yaml.safe_load(configuration.removeprefix("--config="))["data"]
    assert written["class_path"] == "tl.data.multitask.MultiTaskDataModule"
    assert written["init_args"]["batch_size"] == 16
    first, second = written["init_args"]["sources"].values()
    assert first["init_args"]["size"] == 48
    assert first["init_args"]["augment"]["padding"] == 2
    assert second["init_args"] == {"folder": "b"}


def test_what_cannot_be_written_down_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="those of a TextDataModule are not known; name the class"):
        tl.fit(TextDataModule(str(tmp_path / "a.csv"), targets="label"))
    with pytest.raises(TypeError, match="A Linear cannot be written into"):
        tl.fit("a.yaml", model={"backbone": torch.nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="none: no such folder or table of images"):
        tl.fit("none")
