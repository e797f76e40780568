from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tl import GeneratedDataModule, TransferModule
from tl.runs.folders import (
    best_checkpoint,
    between_batches,
    build,
    build_data,
    completed_epochs,
    configuration_of,
    latest_checkpoint,
    new_run_folder,
    run_of_checkpoint,
    versions_folder,
)


def test_run_folders_are_numbered_on(tmp_path: Path) -> None:
    assert new_run_folder(tmp_path).name == "version_0"
    (tmp_path / "version_9").mkdir()
    (tmp_path / "version_old").mkdir()
    assert new_run_folder(tmp_path).name == "version_10"


def test_digits_of_other_kinds_are_no_numbers(tmp_path: Path) -> None:
    (tmp_path / "version_\u00b2").mkdir()
    assert new_run_folder(tmp_path).name == "version_0"


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "", ".", ".."])
def test_a_name_stays_in_the_folder_of_runs(name: str) -> None:
    assert versions_folder("logs", "sweep/a") == Path("logs/sweep/a")
    with pytest.raises(ValueError, match=f"`name` must name a folder .*got '{name}'"):
        versions_folder("logs", name)


@pytest.mark.parametrize("above", [False, True])
def test_a_folder_that_leads_nowhere_is_refused(tmp_path: Path, *, above: bool) -> None:
    (tmp_path / "logs").symlink_to(tmp_path / "away" / "disk")
    with pytest.raises(ValueError, match="a broken link"):
        new_run_folder(tmp_path / "logs" / "run" if above else tmp_path / "logs")


def test_the_newest_runs_checkpoint_is_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run fit first"):
        latest_checkpoint(tmp_path)
    (tmp_path / "version_11" / "checkpoints").mkdir(parents=True)
    for number, name in ((1, "best"), (2, "last"), (10, "interrupted")):
        path = tmp_path / f"version_{number}" / "checkpoints" / f"{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert latest_checkpoint(tmp_path).parts[-3::2] == ("version_10", "interrupted.ckpt")
    (tmp_path / "version_10" / "checkpoints" / "interrupted.ckpt").unlink()
    assert latest_checkpoint(tmp_path).parts[-3::2] == ("version_2", "last.ckpt")


def test_the_best_checkpoint_is_the_one_that_the_results_name(tmp_path: Path) -> None:
    run = tmp_path / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("best", "best-v1", "last"):
        torch.save({"global_step": 3, "callbacks": {}}, run / "checkpoints" / f"{name}.ckpt")
    (run / "results.json").write_text('{"best": {"checkpoint": "checkpoints/best-v1.ckpt"}}')
    assert best_checkpoint(run) == run / "checkpoints" / "best-v1.ckpt"
    moved = run.rename(tmp_path / "version_7")
    assert best_checkpoint(moved) == moved / "checkpoints" / "best-v1.ckpt"
    (moved / "checkpoints" / "best-v1.ckpt").unlink()
    with pytest.raises(ValueError, match=r"names checkpoints/best-v1.ckpt as the best"):
        best_checkpoint(moved)


def test_a_killed_runs_newest_checkpoint_names_the_best(tmp_path: Path) -> None:
    run = tmp_path / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    best = run / "checkpoints" / "best-v1.ckpt"
    state = {"best": {"monitor": "val/loss", "best_model_path": f"/elsewhere/{best.name}"}}
    for name, step in (("best", 1), ("best-v1", 2), ("last", 3)):
        content = {"global_step": step, "callbacks": state if name == "last" else {}}
        torch.save(content, run / "checkpoints" / f"{name}.ckpt")
    assert best_checkpoint(run) == best, "the folder was moved"


def test_the_best_checkpoint_of_a_resumed_run_may_be_an_earlier_versions(tmp_path: Path) -> None:
    before = tmp_path / "version_0" / "checkpoints" / "best.ckpt"
    last = tmp_path / "version_1" / "checkpoints" / "last.ckpt"
    for path in (before, last):
        path.parent.mkdir(parents=True)
    states = {
        "last": {"monitor": None, "best_model_path": str(last)},
        "best": {"monitor": "val/acc", "best_model_path": str(before)},
    }
    torch.save({"callbacks": states}, last)
    assert latest_checkpoint(tmp_path) == last, "it is gone"
    before.touch()
    assert latest_checkpoint(tmp_path) == before


def test_a_checkpoint_belongs_to_the_version_that_resumed_its_run(tmp_path: Path) -> None:
    best = tmp_path / "version_0" / "checkpoints" / "best.ckpt"
    for number in range(12):
        (tmp_path / f"version_{number}" / "checkpoints").mkdir(parents=True)
        (tmp_path / f"version_{number}" / "config.yaml").touch()
    assert run_of_checkpoint(best) == tmp_path / "version_0"
    for number, named in ((9, best.name), (10, "best.ckpt"), (11, None)):
        path = f"../version_0/checkpoints/{named}" if number == 10 else "checkpoints/best.ckpt"
        content = {"best": {"checkpoint": path} if named else None}
        (tmp_path / f"version_{number}" / "results.json").write_text(json.dumps(content))
    assert run_of_checkpoint(best) == tmp_path / "version_10"
    own = tmp_path / "version_9" / "checkpoints" / "best.ckpt"
    assert run_of_checkpoint(own) == tmp_path / "version_9"
    assert run_of_checkpoint(best.with_name("last.ckpt")) == tmp_path / "version_0"
    assert run_of_checkpoint(tmp_path / "best.ckpt") is None


def progress(ready: int, completed: int, *, last: bool, batches: tuple[int, int]) -> dict[str, Any]:
    current = {"ready": batches[0], "processed": batches[1]}
    fit = {
        "epoch_progress": {"current": {"ready": ready, "completed": completed}},
        "epoch_loop.batch_progress": {"is_last_batch": last, "current": current},
    }
    return {"loops": {"fit_loop": fit}}


@pytest.mark.parametrize(
    ("checkpoint", "epochs"),
    [
        (progress(3, 2, last=True, batches=(5, 5)), 3),  # after validation
        (progress(3, 2, last=False, batches=(3, 2)), 2),  # within an epoch
        (progress(3, 2, last=True, batches=(5, 4)), 2),  # before an epoch's last step
        (progress(3, 3, last=False, batches=(0, 0)), 3),
        ({}, None),
    ],
)
def test_epochs_are_counted_when_all_is_trained(
    checkpoint: dict[str, Any], epochs: int | None
) -> None:
    assert completed_epochs(checkpoint) == epochs


def test_a_run_is_built_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: a\n"
        "model: {class_path: tl.modules.TransferModule,"
        " init_args: {backbone: {class_path: tests.small.Tiny}}}\n"
        "data: {class_path: tl.data.GeneratedDataModule, init_args: {train_size: 120}}\n"
    )
    (tmp_path / "b.yaml").write_text("data: {init_args: {train_size: 130, classes: 100}}\n")
    model, data = build([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert isinstance(model, TransferModule)
    assert isinstance(data, GeneratedDataModule)
    assert data.train_size == 130
    assert model.task.answers == "100 classes"  # told by the data
    (tmp_path / "c.yaml").write_text("name: a\n")
    with pytest.raises(ValueError, match=r"c\.yaml is not the configuration of a run"):
        build([tmp_path / "c.yaml"])


def test_the_configuration_stands_beside_the_folder_of_checkpoints(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    with pytest.raises(ValueError, match="Name it with --config"):
        configuration_of(checkpoint)
    (tmp_path / "config.yaml").touch()
    assert configuration_of(checkpoint) == tmp_path / "config.yaml"


@pytest.mark.parametrize(
    ("done", "last", "accumulate", "between"),
    [(3, False, 2, True), (4, False, 2, False), (3, True, 2, False), (3, False, None, False)],
)
def test_a_checkpoint_between_the_batches_of_a_step_is_told(
    done: int, last: bool, accumulate: int | None, between: bool
) -> None:
    progress = {"current": {"processed": done, "ready": done}, "is_last_batch": last}
    content = {
        "tl": {"configuration": {"trainer": {"accumulate_grad_batches": accumulate}}},
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
    }
    assert between_batches(content) == between


def test_data_alone_are_built_from_any_configuration(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "model: {not: read}\ndata: {class_path: tl.data.GeneratedDataModule}\n"
    )
    (tmp_path / "more.yaml").write_text("data: {init_args: {train_size: 70}}\n")
    data = build_data([tmp_path / "run.yaml", tmp_path / "more.yaml"])
    assert isinstance(data, GeneratedDataModule)
    assert data.train_size == 70
    (tmp_path / "none.yaml").write_text("model: {}\n")
    with pytest.raises(ValueError, match="has no section `data`"):
        build_data([tmp_path / "none.yaml"])
