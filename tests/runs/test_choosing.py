"""Which checkpoint a run resumes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs.test_same_run import BASE, changed
from tl.callbacks import AtomicCheckpointIO
from tl.checkpoints.errors import CheckpointError
from tl.runs.choosing import choose_checkpoint, forget_choice


def content(step: int, epochs: int = 0, **more: Any) -> dict[str, Any]:
    fit = {
        "epoch_progress": {"current": {"ready": epochs, "completed": epochs}},
        "epoch_loop.batch_progress": {"is_last_batch": False, "current": {}},
    }
    return {
        "state_dict": {"weight": torch.arange(1000.0)},
        "global_step": step,
        "epoch": epochs,
        "loops": {"fit_loop": fit},
        "optimizer_states": [],
        **more,
    }


def save(path: Path, step: int, configuration: dict[str, Any] | None = None, **more: Any) -> Path:
    files = AtomicCheckpointIO()
    files.configuration = BASE if configuration is None else configuration
    files.save_checkpoint(content(step, **more), path)
    return path


def checkpoint(folder: Path, version: int, name: str) -> Path:
    return folder / f"version_{version}" / "checkpoints" / name


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def found(folder: Path, here: dict[str, Any] = BASE, **more: Any) -> Path | None:
    chosen = choose_checkpoint(folder, here, **more)
    return chosen.path if chosen else None


def test_the_newest_by_its_step_is_chosen_whatever_its_age(
    tmp_path: Path, lines: list[str]
) -> None:
    newest_one = save(checkpoint(tmp_path, 2, "interrupted.ckpt"), 30)
    save(checkpoint(tmp_path, 2, "best.ckpt"), 20)
    save(checkpoint(tmp_path, 10, "last.ckpt"), 9)
    (tmp_path / "version_11" / "checkpoints").mkdir(parents=True)
    os.utime(newest_one, (0, 0))
    assert found(tmp_path) == newest_one
    elsewhere = save(tmp_path / "own" / "last.ckpt", 40)
    assert found(tmp_path, others=[tmp_path / "own"]) == elsewhere
    assert not lines


def test_of_one_step_the_later_epoch_and_then_the_later_file_is_chosen(tmp_path: Path) -> None:
    best = save(checkpoint(tmp_path, 0, "best.ckpt"), 30)
    last = save(checkpoint(tmp_path, 0, "last.ckpt"), 30)
    os.utime(best, (2, 2))
    os.utime(last, (3, 3))
    assert found(tmp_path) == last
    os.utime(last, (1, 1))
    assert found(tmp_path) == best
    assert found(tmp_path) != save(checkpoint(tmp_path, 1, "a.ckpt"), 30, epochs=1).with_name("b")
    assert found(tmp_path) == checkpoint(tmp_path, 1, "a.ckpt")


def test_a_beginning_from_nothing_is_said(tmp_path: Path, lines: list[str]) -> None:
    assert found(tmp_path / "run") is None
    (tmp_path / "run" / "version_0" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "version_0" / "checkpoints" / ".last.ckpt.tmp").touch()
    assert found(tmp_path / "run") is None
    assert lines == [f"tl: starting from scratch: no checkpoint below {tmp_path / 'run'}."] * 2
    assert not list(tmp_path.rglob("*.tmp")), "a killed process's file"


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "other"])
def test_the_one_before_is_taken_where_one_does_not_verify(
    tmp_path: Path, lines: list[str], how: str
) -> None:
    good = save(checkpoint(tmp_path, 0, "best.ckpt"), 20)
    bad = save(checkpoint(tmp_path, 1, "last.ckpt"), 30)
    if how == "flipped":
        damage(bad)
    else:
        data = bad.read_bytes()
        bad.write_bytes({"truncated": data[:-100], "empty": b"", "other": b"<html>"}[how])
    assert found(tmp_path) == good
    [line] = lines
    assert line.startswith(f"tl: skipped: {bad}: is ")


def test_it_never_starts_from_zero_where_there_are_checkpoints(
    tmp_path: Path, lines: list[str]
) -> None:
    for version in (0, 1):
        damage(save(checkpoint(tmp_path, version, "last.ckpt"), version))
    with pytest.raises(CheckpointError, match="cannot resume from its 2 checkpoints"):
        found(tmp_path)
    assert len(lines) == 2


def test_code_in_a_checkpoint_does_not_run(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for number, key in enumerate(("state_dict", "hyper_parameters", "callbacks")):
        path = checkpoint(tmp_path, number, "last.ckpt")
        path.parent.mkdir(parents=True)
        for zipped in (True, False):
            torch.save({**content(9), key: Evil()}, path, _use_new_zipfile_serialization=zipped)
            with pytest.raises(CheckpointError, match="cannot resume from its"):
                found(tmp_path)
    assert all("posix.mkdir" in line for line in lines)
    assert len(lines) == 2 * (1 + 2 + 3)
    assert not (tmp_path / "ran").exists()


def test_a_run_with_other_settings_is_refused_with_both_values(
    tmp_path: Path, lines: list[str]
) -> None:
    path = save(checkpoint(tmp_path, 0, "last.ckpt"), 30)
    with pytest.raises(ValueError, match=r"batch_size 64 there, 32 here\. Change") as refused:
        found(tmp_path, changed("data.init_args.batch_size", 32))
    assert str(path) in str(refused.value)
    # among several runs of a name, this one's is taken
    mine = save(checkpoint(tmp_path, 1, "last.ckpt"), 3, changed("seed_everything", 1))
    assert found(tmp_path, changed("seed_everything", 1)) == mine
    assert found(tmp_path, changed("trainer.max_epochs", 9)) == path
    assert not lines


def test_a_flipped_bit_in_the_configuration_is_damage_and_not_another_run(
    tmp_path: Path, lines: list[str]
) -> None:
    path = save(checkpoint(tmp_path, 0, "last.ckpt"), 30)
    for step, name in ((40, "newer.ckpt"), (50, "newest.ckpt")):
        damaged = save(checkpoint(tmp_path, 0, name), step)
        data = damaged.read_bytes()
        assert data.count(b"batch_size") == 1
        damaged.write_bytes(data.replace(b"batch_size", b"batch_sizd"))
    assert found(tmp_path) == path
    assert len(lines) == 2
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot resume from its 2 checkpoints"):
        found(tmp_path)


def test_between_the_batches_of_a_step_there_is_nothing_to_resume(
    tmp_path: Path, lines: list[str]
) -> None:
    halves = changed("trainer.accumulate_grad_batches", 2)
    within = content(1)
    progress = within["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    progress["current"] = dict.fromkeys(("ready", "started", "processed", "completed"), 1)
    files = AtomicCheckpointIO()
    files.configuration = halves
    files.save_checkpoint(within, checkpoint(tmp_path, 0, "best.ckpt"))
    assert found(tmp_path, halves) is None
    assert "between the batches of one step" in lines[0]
    assert "starting from scratch" in lines[1]
    damage(save(checkpoint(tmp_path, 0, "last.ckpt"), 30, halves))
    with pytest.raises(CheckpointError, match="cannot resume from its 2 checkpoints"):
        found(tmp_path, halves)


def test_what_is_nothing_to_go_on_from_is_passed_over(tmp_path: Path, lines: list[str]) -> None:
    path = save(checkpoint(tmp_path, 0, "last.ckpt"), 3)
    weights = content(9)
    del weights["optimizer_states"]
    AtomicCheckpointIO().save_checkpoint(weights, checkpoint(tmp_path, 1, "soup.ckpt"))
    AtomicCheckpointIO().save_checkpoint(content(9), checkpoint(tmp_path, 1, "nobodys.ckpt"))
    assert found(tmp_path) == path
    assert "record the configuration" in lines[0]
    assert "no training state" in lines[1]


def test_processes_that_this_one_starts_take_its_choice(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(checkpoint(tmp_path, 0, "last.ckpt"), 3)
    assert found(tmp_path) == first
    save(checkpoint(tmp_path, 1, "last.ckpt"), 9)  # of a run that ends meanwhile
    monkeypatch.setattr("tl.runs.choosing.is_first_process", lambda: False)
    assert found(tmp_path) == first
    monkeypatch.setenv("TL_RESUMED_FROM", "")
    assert found(tmp_path) is None
    forget_choice()
    assert found(tmp_path) == checkpoint(tmp_path, 1, "last.ckpt")
    assert not lines
