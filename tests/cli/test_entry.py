"""The command line as a user types it, on tiny runs."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from tests.processes import PATIENCE, wait_until
from tl import MultiTaskModule, TransferModule, __version__
from tl.backbones import ResNet20
from tl.cli import main

ROOT = Path(__file__).resolve().parents[2]
MULTI = "configs/multitask.yaml"
SOURCE = "configs/source_cifar10.yaml"
TARGET = "configs/transfer_cifar100.yaml"
# drawing takes half of a tiny run; tests of what is drawn give DRAWN
UNDRAWN = ("--dashboard.graph=false", "--dashboard.every_n_epochs=0")
DRAWN = ("--dashboard.graph=true", "--dashboard.every_n_epochs=5")


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def arguments(verb: str, config: str, log_dir: Path, *more: str) -> list[str]:
    """Arguments of a tiny run: synthetic images, a few steps."""
    return [
        *(verb, "--config", config, "--config", "configs/overlays/quick.yaml"),
        *("--data.init_args.generated_size=200", "--trainer.max_epochs=1"),
        *(f"--log_dir={log_dir}", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", *UNDRAWN),
        *more,
    ]


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Return the exit code and the one line of a failing command."""
    code = main(list(args))
    said = capsys.readouterr().err
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if line.startswith("tl: ")]
    assert isinstance(code, int)
    return code, line


def results_of(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return loaded


def test_a_run_from_fit_to_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments("fit", MULTI, tmp_path, *DRAWN))
    said = capsys.readouterr()
    assert "best.ckpt" in said.out
    # a warning for either source, once and whole
    assert said.err.count("GENERATED IMAGES") == 2
    assert said.err.count("200 synthetic images, NOT CIFAR100. Results say nothing about CIF") == 1
    run = tmp_path / "multitask" / "version_0"
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "best.safetensors", "last.ckpt"}
    for name in ("best", "last"):
        path = run / "checkpoints" / f"{name}.ckpt"
        assert torch.serialization.get_unsafe_globals_in_checkpoint(path) == []
    results = results_of(run)
    assert set(results) >= {
        *("metrics", "data", "provenance", "versions", "seconds"),
        *("images_per_second", "peak_memory_bytes"),
    }
    assert {"train/loss", "val/loss", "val/acc", "val/cifar10/acc", "val/cifar100/acc"} <= set(
        results["metrics"]
    )
    assert results["data"]["cifar10"]["kind"] == "generated"
    assert results["data"]["cifar100"]["fingerprint"].startswith("generated:")
    assert (run / "metrics.csv").exists()

    # evaluations add to the run's own folder, and leave what its training wrote
    files = [path.name for path in run.iterdir() if path.is_file() and path.name != "results.json"]
    assert any(name.startswith("events.") for name in files)
    kept = {name: (run / name).read_bytes() for name in files}
    main(arguments("validate", MULTI, tmp_path))
    validated = results_of(run)["evaluated"]["val"]
    assert validated["checkpoint"] == "checkpoints/best.ckpt"
    for name, value in validated["metrics"].items():
        assert value == pytest.approx(results["metrics"][name], rel=1e-5)
    main(arguments("test", MULTI, tmp_path))
    tested = results_of(run)
    assert tested["metrics"].items() > results["metrics"].items()
    assert tested["metrics"]["test/cifar100/acc"] is not None
    assert tested["samples"]["test"]["cifar100"] == {"from": 100, "of": 100}
    assert tested["evaluated"]["test"]["samples"] == tested["samples"]["test"]
    assert (tested["epochs"], tested["best"]) == (results["epochs"], results["best"])

    main(arguments("predict", MULTI, tmp_path))
    assert kept == {name: (run / name).read_bytes() for name in kept}
    assert [path.name for path in run.parent.iterdir()] == ["version_0"]
    assert {path.name for path in run.iterdir()} - set(files) == {
        *("checkpoints", "results.json", "predictions.csv", "validate", "test")
    }
    for verb in ("validate", "test"):  # curves of their own: steps begin again
        assert list((run / verb).glob("events.*"))
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 + 100  # a fifth of 200 and at least one image per class
    assert {row["task"] for row in rows} == {"cifar10", "cifar100"}
    for row in rows:
        assert row["top5"].startswith(row["class_name"])
        assert 0 < float(row["probability"]) <= 1


def test_a_folder_of_images_is_predicted_by_path(tmp_path: Path, real_images: Path) -> None:
    main(arguments("fit", SOURCE, tmp_path))
    folder = real_images / "cifar10" / "test" / "cat"
    main(arguments("predict", SOURCE, tmp_path, f"--data.init_args.predict_folder={folder}"))
    with (tmp_path / "source_cifar10" / "version_0" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == sorted(map(str, folder.glob("*.jpg")))


def test_the_saved_configuration_reproduces_the_run(tmp_path: Path) -> None:
    main(arguments("fit", MULTI, tmp_path))
    first = tmp_path / "multitask" / "version_0"
    main(["fit", "--config", str(first / "config.yaml")])
    again = results_of(tmp_path / "multitask" / "version_1")
    for name, value in results_of(first)["metrics"].items():
        if not name.startswith("perf/"):
            assert again["metrics"][name] == value, name
    saved = yaml.safe_load((first / "config.yaml").read_text())
    assert saved["trainer"]["precision"] == "32-true"
    assert saved["data"]["init_args"]["seed"] == saved["seed_everything"] == 0


def test_transfer_records_where_its_weights_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tl.modules.source_start.rank_zero_info", said.append)
    main(arguments("fit", SOURCE, tmp_path))
    source = tmp_path / "source_cifar10" / "version_0"
    best = source / "checkpoints" / "best.ckpt"
    main(arguments("fit", TARGET, tmp_path, f"--model.init_args.init_from={best}"))
    assert len(said) == 1  # the table of what was loaded
    assert "layer3" in said[0]
    record = results_of(tmp_path / "transfer_cifar100" / "version_0")["provenance"]
    assert record["tasks"][0]["name"] == "cifar10"
    assert record["data"]["fingerprint"] == results_of(source)["data"]["cifar10"]["fingerprint"]
    assert record["loaded"]["values"] == sum(
        value.numel() for value in ResNet20().state_dict().values()
    )


@pytest.mark.parametrize(
    ("config", "kind", "more"),
    [
        (SOURCE, TransferModule, ()),
        (MULTI, MultiTaskModule, ()),
        (MULTI, MultiTaskModule, ("--config=configs/balancing/uncertainty.yaml",)),
    ],
)
def test_a_checkpoint_of_the_command_line_builds_its_module(
    tmp_path: Path, config: str, kind: type[TransferModule | MultiTaskModule], more: tuple[str, ...]
) -> None:
    main(arguments("fit", config, tmp_path, *more))
    [best] = tmp_path.rglob("best.ckpt")
    loaded = kind.load_from_checkpoint(best, weights_only=True)
    assert isinstance(loaded.backbone, ResNet20)
    saved = torch.load(best, weights_only=True)["state_dict"]
    for name, value in loaded.backbone.state_dict().items():
        assert torch.equal(value, saved[f"backbone.{name}"])


def test_a_resumed_run_equals_one_that_was_not_interrupted(tmp_path: Path) -> None:
    steps = "--trainer.limit_train_batches=2"
    main(arguments("fit", SOURCE, tmp_path / "whole", steps, "--trainer.max_epochs=3"))
    # the schedule spans three epochs in both; the first run is stopped after two
    stop = "--trainer.callbacks+=tests.stop.StopAfter"
    main(arguments("fit", SOURCE, tmp_path / "part", steps, "--trainer.max_epochs=3", stop))
    last = tmp_path / "part/source_cifar10/version_0/checkpoints/last.ckpt"
    more = (steps, "--trainer.max_epochs=3", f"--ckpt_path={last}")
    main(arguments("fit", SOURCE, tmp_path / "part", *more))
    ends = [
        torch.load(tmp_path / path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for path in ("whole/source_cifar10/version_0", "part/source_cifar10/version_1")
    ]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--data.init_args.batchsize=3"], 2, "'batchsize'. Did you mean 'batch_size'?"),
        (["--model.init_args.label_smooth=.1"], 2, "Did you mean 'label_smoothing'?"),
        (["--trainer.max_epoch=3"], 2, "Did you mean 'trainer.max_epochs'?"),
        (["--nam=a"], 2, "Did you mean 'name'?"),
        (["--data.init_args.batch_size=many"], 2, "batch_size: expected int, got many"),
        (["--data.init_args.val_size=1.5"], 2, "`val_size` must be 0 or more and below 1"),
        (["--data.init_args.augment.padding=-1"], 2, "`augment.padding` must be 0 or more"),
        (["--model.init_args.label_smoothing=2"], 2, "must be at least 0 and below 1, got 2"),
        (["--model.init_args.batch_norm=own"], 2, "expected 'joint', 'per_source'"),
        (["--model.init_args.backbone=tl.backbones.ResNet21"], 2, "no tl.backbones.ResNet21"),
        (["--model.init_args.backbone=torch.nn.Identity"], 2, "no integer attribute"),
        (["--model.init_args.optimizer=torch.optim.SDG"], 2, "Did you mean 'SGD'?"),
        (["--model.init_args.init_from=no.ckpt"], 2, "no.ckpt: no such file"),
        (["--ckpt_path=no.ckpt"], 2, "no.ckpt: no such file"),
        (["--ckpt_path=last"], 2, "last: no such file"),
        (["--name=../out"], 2, "`name` must name a folder in `log_dir`"),
        (["--trainer.gradient_clip_val=.nan"], 2, "`trainer.gradient_clip_val` must be finite"),
        (["--trainer.precision=bf17"], 2, "trainer.precision: expected"),
        (["--trainer.accelerator=cuda"], 2, "accelerator"),
        (["--config=configs/none.yaml"], 2, "configs/none.yaml"),
        (["--trainer.strategy=dpp"], 2, "Did you mean 'ddp'?"),
        (["--trainer.limit_train_batches=0"], 2, "nothing would be trained"),
        (["--trainer.val_check_interval=1000"], 2, "`val_check_interval` (1000) must be less"),
        (["--model.init_args.optimizer.init_args.lr=-1"], 2, "Invalid learning rate: -1.0"),
        (["--data.init_args.images=real", "--data.init_args.root=README.md"], 2, "README.md"),
        (["--model.init_args.on_nonfinite=ignore"], 2, "on_nonfinite: expected 'stop', 'skip'"),
        (["--model.init_args.tasks=[{name: a, num_classes: 7}]"], 2, "follows from the data"),
        (["--log_dir=/proc/none"], 2, "/proc/none: No such file"),
        (
            ["--log=csv,wanbd"],
            2,
            "`log` has no logger 'wanbd'; choose from tensorboard, csv, wandb",
        ),
        (
            [
                "--data.init_args.images=real",
                "--data.init_args.offline=error",
                "--data.init_args.download=false",
                "--data.init_args.root=none",
            ],
            2,
            "expected the archive cifar-10-python.tar.gz",
        ),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    code: int,
    said: str,
) -> None:
    if torch.cuda.is_available() and "cuda" in more[0]:
        pytest.skip("this machine has the device")
    found, line = failure(capsys, *arguments("fit", MULTI, tmp_path, *more))
    assert said in line
    assert found == code
    assert not list(tmp_path.glob("multitask/version_*")), "a failed start leaves no run folder"


def test_an_evaluation_of_nothing_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb, limit in (("validate", "limit_val_batches"), ("test", "limit_test_batches")):
        found, line = failure(capsys, *arguments(verb, MULTI, tmp_path, f"--trainer.{limit}=0"))
        assert (found, f"`trainer.{limit}` is 0: {verb} would read nothing" in line) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trainr: {max_epochs: 1}", "Did you mean 'trainer.max_epochs'?"),
        ("model: {init_args: {optimzer: {class_path: torch.optim.SGD}}}", "Did you mean 'opti"),
        ("data: {init_args: {augment: {paddin: 1}}}", "'paddin'. Did you mean 'padding'?"),
        ("a: [1,", "is not valid YAML"),
        ("data: {init_args: {offline: maybe}}", "offline: expected 'error', 'generated'"),
    ],
)
def test_a_mistake_in_yaml_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "mistake.yaml"
    path.write_text(text)
    code, line = failure(capsys, *arguments("fit", MULTI, tmp_path, f"--config={path}"))
    assert said in line
    assert code == 2


def test_commands_without_what_they_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failure(capsys, "fit") == (
        2,
        (
            "tl: fit takes a folder of images, or a configuration, such as --config "
            "configs/multitask.yaml."
        ),
    )
    assert "there is no verb 'fitt'" in failure(capsys, "fitt")[1]
    code, line = failure(capsys, *arguments("test", MULTI, tmp_path))
    assert code == 2
    assert "No checkpoint to evaluate" in line


def test_weights_are_no_run_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(ResNet20().state_dict(), tmp_path / "weights.pt")
    more = f"--ckpt_path={tmp_path / 'weights.pt'}"
    code, line = failure(capsys, *arguments("fit", SOURCE, tmp_path, more))
    assert code == 2
    assert "init_from" in line


def test_a_finished_run_is_not_resumed_for_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments("fit", SOURCE, tmp_path))
    capsys.readouterr()
    last = tmp_path / "source_cifar10/version_0/checkpoints/last.ckpt"
    code, line = failure(capsys, *arguments("fit", SOURCE, tmp_path, f"--ckpt_path={last}"))
    assert code == 2
    assert "Nothing is left to train" in line


def test_other_data_are_refused_when_a_run_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments("fit", SOURCE, tmp_path))
    capsys.readouterr()
    last = tmp_path / "source_cifar10/version_0/checkpoints/last.ckpt"
    more = ("--trainer.max_epochs=2", "--data.init_args.generated_size=300", f"--ckpt_path={last}")
    code, line = failure(capsys, *arguments("fit", SOURCE, tmp_path, *more))
    assert code == 2
    assert "was trained on generated:" in line


def test_code_in_a_checkpoint_never_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"state_dict": {}, "epoch": 1, "x": Evil()}, tmp_path / "evil.ckpt")
    for option in ("ckpt_path", "model.init_args.init_from"):
        more = f"--{option}={tmp_path / 'evil.ckpt'}"
        _, line = failure(capsys, *arguments("fit", SOURCE, tmp_path, more))
        assert "posix.mkdir" in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("more", "logs"),
    [
        (("--trainer.logger=false",), set()),
        (
            (
                "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
                "--trainer.logger.init_args.save_dir=runs",
            ),
            {"metrics.csv", "hparams.yaml"},
        ),
        (
            ("--trainer.logger=lightning.pytorch.loggers.CSVLogger",),
            {"metrics.csv", "hparams.yaml"},
        ),
        (
            (
                "--trainer.logger+=lightning.pytorch.loggers.CSVLogger",
                "--trainer.logger+=tests.loggers.FileLogger",
            ),
            {"metrics.csv", "hparams.yaml", "lines.txt"},
        ),
    ],
)
def test_whatever_the_loggers_a_run_has_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], logs: set[str]
) -> None:
    given = arguments("fit", SOURCE, tmp_path, "--log_dir=runs", "--name=mine", *DRAWN, *more)
    monkeypatch.chdir(tmp_path)
    main([str(ROOT / word) if word.startswith("configs/") else word for word in given])
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "runs"}
    run = tmp_path / "runs" / "mine" / "version_0"
    held = {path.name for path in run.iterdir()}
    drawn = {"curves.png", "learning_rates.png"} if "metrics.csv" in logs else set()
    drawn |= {name for name in held if name.startswith(("classes_", "confusion_", "mistakes_"))}
    assert any(name.startswith("confusion_") for name in drawn)
    assert held == {"config.yaml", "results.json", "checkpoints"} | logs | drawn
    assert (run / "checkpoints" / "best.ckpt").exists()
    assert [*(tmp_path / "runs" / "mine").iterdir()] == [run]
    main(["fit", "--config", str(run / "config.yaml")])  # it can begin another run
    assert {path.name for path in run.with_name("version_1").iterdir()} == held


def test_ones_own_images_train_by_the_manuals_command(tmp_path: Path, real_images: Path) -> None:
    """The configuration is of another data module, whose options must not stay."""
    [line] = [
        line
        for line in (ROOT / "docs" / "own_data.md").read_text().splitlines()
        if "FolderDataModule" in line and "tl.cli" in line
    ]
    words = line.split("tl.cli ")[1].split()
    words = [word for word in words if "init_from" not in word]
    words[words.index("--data.init_args.root=flowers")] = (
        f"--data.init_args.root={real_images / 'cifar10'}"
    )
    more = ("--model.init_args.backbone=tl.backbones.ResNet20", "--trainer.max_epochs=1")
    main([*words, *more, f"--log_dir={tmp_path}", "--trainer.accelerator=cpu"])
    described = results_of(tmp_path / "flowers" / "version_0")["data"]["cifar10"]
    assert described["kind"] == "real"
    assert described["classes"] == {"fine": 10}


def test_a_checkpoint_of_another_model_is_one_short_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments("fit", SOURCE, tmp_path))
    capsys.readouterr()
    best = tmp_path / "source_cifar10/version_0/checkpoints/best.ckpt"
    more = ("--model.init_args.backbone=tl.backbones.ResNet32", f"--ckpt_path={best}")
    code, line = failure(capsys, *arguments("test", SOURCE, tmp_path, *more))
    assert code == 2
    assert "of another model (missing: backbone.layer1.3.conv1.weight" in line
    assert len(line) < 400


def test_checkpoints_can_be_turned_off(tmp_path: Path) -> None:
    main(arguments("fit", SOURCE, tmp_path, "--trainer.enable_checkpointing=false"))
    run = tmp_path / "source_cifar10" / "version_0"
    assert (run / "results.json").exists()
    assert not (run / "checkpoints").exists()


def test_several_tasks_need_another_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments("fit", TARGET, tmp_path, "--data.init_args.targets=both")
    assert "the data have several" in failure(capsys, *given)[1]


def test_classes_in_the_working_folder_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the console script, which does not search there by itself."""
    (tmp_path / "mine_for_this_test.py").write_text(
        "from tl.backbones import ResNet20\nclass Net(ResNet20): pass\n"
    )
    given = arguments("fit", SOURCE, tmp_path)
    given = [str(ROOT / word) if word.startswith("configs/") else word for word in given]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", str(ROOT))])
    main([*given, "--model.init_args.backbone=mine_for_this_test.Net"])


def test_a_full_disk_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "best.ckpt")

    monkeypatch.setattr("os.fsync", full)
    code, line = failure(capsys, *arguments("fit", SOURCE, tmp_path))
    assert code == 1
    assert line.endswith("version_0/checkpoints/best.ckpt: No space left on device.")
    assert not list(tmp_path.rglob("*.ckpt*")), "nothing is half-written"


def test_tracebacks_are_there_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TL_DEBUG", "1")
    with pytest.raises(ValueError, match="val_size"):
        main(arguments("fit", SOURCE, tmp_path, "--data.init_args.val_size=1.5"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_leaves_a_checkpoint_and_says_its_path(tmp_path: Path, number: int) -> None:
    command = arguments("fit", SOURCE, tmp_path, "--trainer.max_epochs=500")
    process = subprocess.Popen(
        [sys.executable, "-m", "tl.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        last = tmp_path / "source_cifar10/version_0/checkpoints/last.ckpt"
        wait_until(last.exists, process)
        assert last.exists(), process.stderr.read() if process.stderr else ""
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    [line] = [line for line in said.splitlines() if line.startswith("tl: stopped")]
    checkpoint = Path(line.split("--ckpt_path ")[1].removesuffix("."))
    assert checkpoint.exists()
    assert torch.load(checkpoint, weights_only=True)["global_step"] > 0


@pytest.mark.parametrize(
    ("verb", "number"),
    [
        ("fit", signal.SIGINT),
        ("fit", signal.SIGTERM),
        ("test", signal.SIGHUP),
        ("test", signal.SIGUSR1),
    ],
)
def test_a_signal_before_training_leaves_nothing(tmp_path: Path, number: int, verb: str) -> None:
    if verb == "test":
        main(arguments("fit", SOURCE, tmp_path))
    before = sorted(tmp_path.glob("source_cifar10/*"))
    # making so many images takes minutes
    command = arguments(verb, SOURCE, tmp_path, "--data.init_args.generated_size=400000")
    # a shell that starts the tests in the background has Ctrl-C ignored
    heeding = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    errors = tmp_path / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", heeding, "-m", "tl.cli", *command],
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    try:
        # the Trainer is built, and the images are not
        wait_until(lambda: "GPU available" in errors.read_text(), process)
        process.send_signal(number)
        process.wait(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    said = errors.read_text()
    name = signal.Signals(number).name
    assert f"tl: stopped by {name}, nothing was saved." in said.splitlines()
    assert sorted(tmp_path.glob("source_cifar10/*")) == before


def test_an_overlay_before_its_run_is_told_where_it_belongs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["fit", "--config=configs/transfer/l2_sp.yaml", f"--config={SOURCE}"])
    assert code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("tl: ")]
    assert "an overlay comes after the configuration of the run" in line


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"tl {__version__}"
    for verb in ("fit", "validate", "test", "predict"):
        code = main([verb, "--help-all"])
        assert code == 0
        assert "Name of the run; its versions" in capsys.readouterr().out
    assert main(["fit", "--model.help=tl.modules.MultiTaskModule"]) == 0
    assert "domain" not in (said := capsys.readouterr().out)
    assert "What batch norm averages over." in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--version"], 0, __version__),
        (["--help"], 0, "tl list balancing"),
        (["fit", "--help"], 0, "--model.init_from"),
        (["list", "balancing"], 0, "(Yu et al., 2020)"),
        (["fit", "--config", "none.yaml"], 2, "tl: --config none.yaml: no such file"),
        (["delta_m", "none"], 2, "tl: There is no run folder none."),
    ],
)
def test_what_needs_no_lightning_is_said_before_it_is_imported(
    arguments: list[str], code: int, said: str
) -> None:
    script = (
        "import sys\nfrom tl.cli import main\ncode = main(sys.argv[1:])\n"
        "print('torch' in sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "False"


def test_the_unit_of_a_schedule_is_asked_for_and_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "--trainer.limit_train_batches=4",
        "--model.init_args.scheduler=torch.optim.lr_scheduler.StepLR",
        "--model.init_args.scheduler.init_args.step_size=3",
    ]
    code, line = failure(capsys, *arguments("fit", SOURCE, tmp_path, *settings))
    assert code == 2
    assert "its `step_size` of 3 is beyond the 1 epoch" in line
    assert "or set `scheduler_interval` to step or epoch" in line
    unit = "--model.init_args.scheduler_interval=step"
    small = "--data.init_args.batch_size=20"
    main(arguments("fit", SOURCE, tmp_path, *settings, unit, small))
    with (tmp_path / "source_cifar10" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["lr/head"]]
    rates = [float(row["lr/head"]) for row in rows]
    assert rates == pytest.approx([rates[0]] * 3 + [rates[0] / 10])


def test_a_working_directory_that_was_deleted_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for verb in ("fit", "delta_m"):
        assert failure(capsys, verb) == (
            2,
            "tl: The working directory was deleted; change to an existing one.",
        )


def test_a_terminal_without_unicode_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    for errors in ("strict", "surrogateescape"):  # as of LC_ALL=C
        terminal = io.TextIOWrapper(shown, encoding="ascii", errors=errors, write_through=True)
        monkeypatch.setattr(sys, "stdout", terminal)
        main(["--version"])
        Console(file=terminal).print("0:00:01 \u2022 0:00:02")
        terminal.detach()
    assert shown.getvalue().count(b"0:00:01 \\u2022 0:00:02") == 2


def test_a_reader_that_ends_first_ends_the_command_without_a_word() -> None:
    command = f"{sys.executable} -m tl.cli list transfer | true; exit ${{PIPESTATUS[0]}}"
    shell = ["bash", "-c", command]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_pipe_that_breaks_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")  # as a pipe to a subprocess may break

    monkeypatch.setattr("tl.cli.entry.run_verb", broken)
    code, line = failure(capsys, "list", "transfer")
    assert code == 2
    assert "Broken pipe" in line
