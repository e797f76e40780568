from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.test_verbs import failure
from tl.cli import main
from tl.cli.group import _hindrance
from tl.tasks import Classification

ROOT = Path(__file__).resolve().parents[2]
CALLBACKS = (
    "[{class_path: tl.callbacks.GradientDiagnostics, init_args: {every_n_steps: 1}}, "
    "{class_path: tl.callbacks.TaskAffinity}]"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("group")
    main(
        [
            *("fit", f"--config={ROOT / 'configs' / 'tasks' / 'cifar100_superclasses.yaml'}"),
            f"--config={ROOT / 'configs' / 'overlays' / 'quick.yaml'}",
            "--data.init_args.batch_size=40",
            "--data.init_args.superclasses=[trees,people,fish]",
            "--data.init_args.generated_size=800",
            *("--trainer.max_epochs=-1", "--trainer.max_steps=3", f"--log_dir={folder}"),
            f"--trainer.callbacks={CALLBACKS}",
            *("--trainer.accelerator=cpu", "--dashboard.graph=false", "--trainer.precision=32"),
            "--trainer.enable_progress_bar=false",
        ]
    )
    return folder / "superclasses"


def test_the_tasks_of_a_run_are_grouped_and_a_study_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["group", str(run), "--groups=2", f"--out={tmp_path}"])
    said, wrote = capsys.readouterr()
    assert str(tmp_path / "partitions") in wrote
    assert "3 tasks, 3 measurements" in said
    assert "exact look-ahead" in said
    found = json.loads((tmp_path / "group.json").read_text())
    assert len(found["groups"]) == 2
    assert found["optimal"]
    assert (tmp_path / "group.png").exists()
    main(["group", str(run), "--groups=2", f"--out={tmp_path / 'stage'}", "--stage=layer1"])
    assert "exact look-ahead" not in capsys.readouterr().out  # that is of all stages
    main(["study", "status", str(tmp_path / "group_study.yaml"), f"--out={tmp_path / 'study'}"])
    assert "0 of 25 runs are done" in capsys.readouterr().out
    other = tmp_path / "other"
    shutil.copytree(run, other)
    [*_, newest] = sorted(other.glob("version_*"))
    (newest / "config.yaml").unlink()
    main(["group", str(newest), "--groups=2", f"--out={tmp_path}"])
    stale = f"{tmp_path / 'group_study.yaml'} is from an earlier call."
    assert stale in capsys.readouterr().err


def test_no_study_is_written_that_cannot_run(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    backbone = {"class_path": "tl.backbones.ResNet20"}
    assert "is missing" in str(_hindrance({}, file, backbone))
    file.touch()
    assert _hindrance({}, file, backbone) is None
    text = {"class_path": "tl.backbones.TextBackbone"}
    assert "and the run has tl.backbones.TextBackbone" in str(_hindrance({}, file, text))
    tasks = [Classification("a", 2), Classification("b", 2, shares="a")]
    tasks += [Classification("c", 2, trains=False)]
    content = {"tl": {"tasks": [task.record() for task in tasks]}}
    assert "a head of its own, unlike b, c" in str(_hindrance(content, file, backbone))


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert "3 tasks cannot be divided into 4 groups; choose 1 to 3" in failure(
        capsys, "group", str(run), "--groups=4"
    )
    assert "has no stage 'top'; choose backbone, " in failure(
        capsys, "group", str(run), "--groups=2", "--stage=top"
    )
    assert "There is no run folder" in failure(capsys, "group", "none", "--groups=2")
    assert "holds no checkpoint" in failure(capsys, "group", str(tmp_path), "--groups=2")
    (tmp_path / "runs" / "a" / "version_0").mkdir(parents=True)
    assert "runs is no run, but holds some; name one of them: a" in failure(
        capsys, "group", str(tmp_path / "runs"), "--groups=2"
    )
    (tmp_path / "file.ckpt").touch()
    assert "file.ckpt is a file; name the folder of its run" in failure(
        capsys, "group", str(tmp_path / "file.ckpt"), "--groups=2"
    )
    assert "`--seed` must be 0 to 4294967295, got -1" in failure(
        capsys, "group", str(run), "--groups=2", "--seed=-1"
    )


def test_a_run_without_diagnostics_is_told_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.small import tiny_data  # noqa: PLC0415 - only here
    from tests.sources import saved_source  # noqa: PLC0415 - only here

    path = saved_source(tmp_path, tiny_data())
    capsys.readouterr()
    said = failure(capsys, "group", str(path.parent.parent), "--groups=2")
    assert "kept no affinities of its tasks; train it with GradientDiagnostics" in said
    assert "--config configs/overlays/gradient_diagnostics.yaml" in said
