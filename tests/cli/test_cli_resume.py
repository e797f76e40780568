"""``--resume auto`` and checkpoints that cannot be written, as a user meets them."""

from __future__ import annotations

import csv
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml

from tests.cli.test_entry import SOURCE, arguments, failure, results_of
from tests.processes import PATIENCE, wait_until
from tests.server import serving
from tl.cli import main
from tl.runs.folders import requeue_folder

ROOT = Path(__file__).resolve().parents[2]
RUN = "source_cifar10"
SMALL = (
    "--data.init_args.batch_size=32",
    "--trainer.limit_train_batches=3",  # of five
)
AUTO = ("--resume", "auto")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def small(folder: Path, epochs: int, *more: str) -> list[str]:
    return arguments("fit", SOURCE, folder, *SMALL, f"--trainer.max_epochs={epochs}", *more)


def saved(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of one epoch; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    os.chdir(ROOT)
    main(small(folder, 1))
    return folder / RUN


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """Log folder with a copy of it."""
    subprocess.run(["cp", "-r", str(finished), str(tmp_path)], check=True)  # noqa: S607 - cp
    return tmp_path


def test_a_killed_run_goes_on_by_the_same_command_as_if_nothing_had_been(
    tmp_path: Path, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    every = "--last_checkpoint.every_n_train_steps=2"  # within epochs of three
    command = small(tmp_path / "killed", 4, every, *AUTO)
    # it waits for its end in the third epoch
    hold = "--trainer.callbacks+=tests.stop.WaitInTheThirdEpoch"
    process = subprocess.Popen(
        [sys.executable, "-m", "tl.cli", *command, hold],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = tmp_path / "killed" / RUN / "version_0" / "checkpoints" / "last.ckpt"
    try:
        wait_until(lambda: last.exists() and saved(last)["global_step"] == 8, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert saved(last)["global_step"] == 8
    # a second version was killed before it could save, and a save before it was done
    (last.parents[2] / "version_1" / "checkpoints").mkdir(parents=True)
    (last.parent / ".last.ckpt.tmp").touch()
    main(command)
    assert lines == [f"tl: resuming from {last}, at step 8 in epoch 2 (counted from 0)."]
    main(small(tmp_path / "whole", 4, every))
    ends = [
        saved(tmp_path / path / "checkpoints" / "last.ckpt")["state_dict"]
        for path in (f"killed/{RUN}/version_2", f"whole/{RUN}/version_0")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])
    assert not list(tmp_path.rglob("*.tmp"))
    # and again, as a cluster that queues it again does
    capsys.readouterr()
    for _ in range(2):
        main(command)
        said = capsys.readouterr().out.splitlines()
        [line] = [line for line in said if line.startswith("tl: ")]
        assert line.startswith("tl: nothing is left to train: ")
        assert "version_2/checkpoints/last.ckpt has completed 4 of 4 epochs" in line
    assert len(list((tmp_path / "killed" / RUN).iterdir())) == 3


def test_the_first_start_says_so_and_the_configuration_repeats_the_run(
    tmp_path: Path, lines: list[str]
) -> None:
    main(small(tmp_path, 1, *AUTO))
    assert lines == [f"tl: starting from scratch: no checkpoint below {tmp_path / RUN}."]
    config = tmp_path / RUN / "version_0" / "config.yaml"
    assert yaml.safe_load(config.read_text())["resume"] is None
    main(["fit", "--config", str(config)])
    assert (tmp_path / RUN / "version_1" / "results.json").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--trainer.logger=false",),
        (
            "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
            "--trainer.logger.init_args.save_dir=elsewhere",
        ),
    ],
)
def test_with_other_loggers_it_resumes_from_the_run_folder(
    tmp_path: Path, more: tuple[str, ...], lines: list[str]
) -> None:
    more = tuple(word.replace("elsewhere", str(tmp_path / "elsewhere")) for word in more)
    main(small(tmp_path / "logs", 1, *more, *AUTO))
    main(small(tmp_path / "logs", 2, *more, *AUTO))
    last = tmp_path / "logs" / RUN / "version_0" / "checkpoints" / "last.ckpt"
    assert f"resuming from {last}" in lines[1]


@pytest.mark.parametrize(
    ("more", "folder"),
    [
        ((), f"logs/{RUN}/version_0/checkpoints"),
        (("--trainer.enable_checkpointing=false",), f"logs/{RUN}/version_0/checkpoints"),
        (
            ("--trainer.enable_checkpointing=false", "--trainer.logger=false"),
            f"logs/{RUN}/version_0/checkpoints",
        ),
    ],
)
def test_what_a_signal_before_the_first_step_leaves_is_found(
    tmp_path: Path, more: tuple[str, ...], folder: str, lines: list[str]
) -> None:
    command = small(tmp_path / "logs", 1, f"--trainer.default_root_dir={tmp_path}", *more)
    code = main([*command, "--trainer.callbacks+=tests.stop.SignalBeforeTheFirstStep"])
    assert code == 128 + signal.SIGTERM
    path = tmp_path / folder / "interrupted.ckpt"
    assert saved(path)["global_step"] == 0
    main([*command, *AUTO])
    assert lines[0].startswith(f"tl: resuming from {path}, at step 0 ")


def test_a_damaged_checkpoint_is_passed_over(run: Path, lines: list[str]) -> None:
    folder = run / RUN / "version_0" / "checkpoints"
    data = bytearray((folder / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 16
    (folder / "last.ckpt").write_bytes(data)
    main(small(run, 2, *AUTO))
    assert f"skipped: {folder / 'last.ckpt'}: is damaged" in lines[0]
    assert f"resuming from {folder / 'best.ckpt'}" in lines[1]
    assert results_of(run / RUN / "version_1")["epochs"] == 2


@pytest.mark.parametrize("loops", [[1, 2], {"fit_loop": 3}, {"fit_loop": {"epoch_progress": []}}])
def test_a_malformed_checkpoint_is_passed_over(run: Path, lines: list[str], loops: object) -> None:
    folder = run / RUN / "version_0" / "checkpoints"
    content = {**saved(folder / "last.ckpt"), "loops": loops, "global_step": 10**6}
    torch.save(content, folder / "interrupted.ckpt")
    main(small(run, 2, *AUTO))
    assert f"skipped: {folder / 'interrupted.ckpt'}: is malformed" in lines[0]


def test_none_that_verifies_is_a_mistake(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in run.rglob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-1])
    code, line = failure(capsys, *small(run, 2, *AUTO))
    assert code == 2
    assert "cannot resume from its 2 checkpoints" in line
    assert [path.name for path in (run / RUN).iterdir()] == ["version_0"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("--model.init_args.optimizer.init_args.lr=0.3", "optimizer.init_args.lr 0.1 there, 0.3"),
        ("--data.init_args.generated_size=300", "data.init_args.generated_size 200 there, 300"),
        ("--data.init_args.name=cifar100", "data.init_args.name cifar10 there, cifar100 here"),
        ("--seed_everything=1", "seed_everything 0 there, 1 here; data.init_args.seed 0 there, 1"),
        ("--config=configs/transfer/linear_probe.yaml", "init_args.strategy"),
        ("--ckpt_path=a.ckpt", "leave one of them out"),
    ],
)
def test_another_run_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], more: str, said: str
) -> None:
    code, line = failure(capsys, *small(run, 2, *AUTO, more))
    assert code == 2
    assert said in line
    assert len(line) < 700


def test_a_named_checkpoint_goes_on_with_other_settings_and_says_so(
    run: Path, lines: list[str]
) -> None:
    last = run / RUN / "version_0" / "checkpoints" / "last.ckpt"
    more = ("--model.init_args.optimizer.init_args.lr=0.3", f"--ckpt_path={last}")
    main(small(run, 2, *more))
    assert "optimizer.init_args.lr 0.1 there, 0.3 here" in lines[0]
    assert "trainer.max_epochs 1 there, 2 here: a schedule over the whole run" in lines[1]
    assert len(lines) == 2


def test_an_address_is_gone_on_from(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = run / RUN / "version_0" / "checkpoints"
    with serving() as answers:
        for name in ("last.ckpt", "best.safetensors"):
            answers.bodies[f"/{name}"] = (folder / name).read_bytes()
        address = f"{answers.address}/last.ckpt"
        main(small(run, 2, f"--ckpt_path={address}"))
        weights = f"--model.init_args.init_from={answers.address}/best.safetensors"
        main(small(run / "target", 1, weights, "--trainer.max_steps=1"))
        _, line = failure(capsys, *small(run, 2, f"--ckpt_path={answers.address}/no.ckpt"))
        assert "404" in line
    config = yaml.safe_load((run / RUN / "version_1" / "config.yaml").read_text())
    assert config["ckpt_path"] == address
    record = results_of(run / "target" / RUN / "version_0")["provenance"]
    assert record["tasks"] == [{**record["tasks"][0], "name": "cifar10"}]
    assert record["path"].startswith("best-")


def test_the_weights_alone_can_be_evaluated(run: Path) -> None:
    folder = run / RUN / "version_0" / "checkpoints"
    found = []
    for name in ("best.ckpt", "best.safetensors"):
        main(arguments("test", SOURCE, run, f"--ckpt_path={folder / name}"))
        found.append(results_of(run / RUN / "version_0")["evaluated"]["test"])
        assert found[-1]["checkpoint"] == f"checkpoints/{name}"
    assert found[0]["metrics"] == found[1]["metrics"] != {}


@pytest.fixture
def _small_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_small_files")
@pytest.mark.parametrize("how", ["stop", "warn"])
def test_a_limit_on_the_size_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """The checkpoints of 2.2 MB do not fit, the weights would."""
    more = f"--checkpoint_files.on_write_error={how}"
    code, line = failure(capsys, *small(tmp_path, 2, more))
    assert code == 1
    assert line.endswith(".ckpt: File too large.")
    folder = tmp_path / RUN / "version_0"
    with (folder / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    # it went on to the end, or ended at the first, which the next step may hear of
    assert max(steps) in ((5,) if how == "warn" else (2, 3))
    assert (folder / "results.json").exists() == (how == "warn")
    assert not list(folder.glob("checkpoints/*"))
    assert not list(folder.glob("checkpoints/.*"))


def test_two_processes_resume_together(run: Path) -> None:
    two = ("--trainer.strategy=ddp", "--trainer.devices=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "tl.cli", *small(run, 2, *AUTO, *two)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        with suppress(ProcessLookupError):  # the second one too
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said[-3000:]
    assert said.count("tl: resuming from ") == 1
    assert said.count("not bit for bit") == 1
    assert results_of(run / RUN / "version_1")["epochs"] == 2


def test_a_checkpoint_between_the_batches_of_a_step_is_passed_over(
    tmp_path: Path, lines: list[str]
) -> None:
    halves = ("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=1")
    main(small(tmp_path, 1, *halves))
    folder = tmp_path / RUN / "version_0" / "checkpoints"
    content = saved(folder / "last.ckpt")
    progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    # what a validation after the first of two batches leaves, at a later step
    progress["current"].update(ready=1, started=1, processed=1, completed=1)
    progress["is_last_batch"] = False
    content["global_step"] += 1
    torch.save(content, folder / "best.ckpt")
    main(small(tmp_path, 2, *halves, *AUTO))
    assert f"skipped: {folder / 'best.ckpt'}: was saved between the batches" in lines[0]
    assert f"resuming from {folder / 'last.ckpt'}" in lines[1]
    shutil.rmtree(tmp_path / RUN / "version_1")
    (folder / "last.ckpt").unlink()
    lines.clear()
    main(small(tmp_path, 2, *halves, *AUTO))
    assert "starting from scratch" in lines[1]
    assert results_of(tmp_path / RUN / "version_1")["epochs"] == 2


def test_a_requeued_slurm_job_resumes_its_own_checkpoint_and_no_others(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = {"JOB_NAME": "a", "NTASKS": "1"}
    for name, value in {**slurm, "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.chdir(run)
    command = [str(ROOT / word) if (ROOT / word).is_file() else word for word in small(run, 2)]
    command.append("--trainer.logger=lightning.pytorch.loggers.CSVLogger")  # told the version
    last = run / RUN / "version_0" / "checkpoints" / "last.ckpt"
    shutil.copy(last, "hpc_ckpt_1.ckpt")  # of whichever job began here before
    looked: list[Path] = []

    def record(*given: Any) -> Path:
        looked.append(cast("Path", requeue_folder(*given)))
        return looked[-1]

    monkeypatch.setattr("tl.cli.command.requeue_folder", record)
    expected = (("76", "0", {"0", "1"}), ("77", "0", {"1"}), ("77", "1", {"0", "1"}))
    for number, (job, seed, trained) in enumerate(expected, 1):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        assert main([*command, f"--seed_everything={seed}"]) == 0
        with (run / RUN / f"version_{number}" / "metrics.csv").open() as file:
            assert {row["epoch"] for row in csv.DictReader(file)} - {""} == trained
        if number == 1:
            requeued = Path(str(looked[0]).replace("job_76_", "job_77_"))
            requeued.mkdir()
            shutil.copy(last, requeued / "hpc_ckpt_1.ckpt")
    assert looked[1] == requeued
    assert looked[2].parent == requeued.parent
    assert looked[2] != requeued, "another run of the same job"
    there = run / "elsewhere" / RUN / requeued.name
    there.mkdir(parents=True)
    shutil.copy(last, there / "hpc_ckpt_1.ckpt")
    again = [*command, "--seed_everything=0", f"--log_dir={run / 'elsewhere'}", *AUTO]
    assert main(again) == 0
    with (there.parent / "version_0" / "metrics.csv").open() as file:
        assert {row["epoch"] for row in csv.DictReader(file)} - {""} == {"1"}, "--resume auto"
