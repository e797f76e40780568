"""Mistakes in the shipped configurations: each run trains, or ends in one clear line."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml

from tests.mutations import mutate
from tl.cli import main

ROOT = Path(__file__).resolve().parents[1]
CASES, CHUNK = 200, 20
SECONDS = 30
RUNS = ("multitask", "source_cifar10", "transfer_cifar100")
FOLDERS = {"multitask": ("balancing", "transfer"), "transfer_cifar100": ("transfer",)}
# small: these settings are a sound run of a moment on any of the configurations
TINY: dict[str, Any] = {
    "data": {
        "init_args": {"images": "generated", "generated_size": 200, "batch_size": 10},
    },
    "model": {"init_args": {"backbone": {"class_path": "tests.small.Staged"}}},
    "trainer": {"max_epochs": 1, "limit_train_batches": 2, "accelerator": "cpu"},
    "dashboard": {"graph": False},
}
QUICK = (
    *("--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--dashboard.every_n_epochs=0"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(ROOT)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    yield
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the source, for the configurations that start from one."""
    folder = tmp_path_factory.mktemp("source")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(joined("source_cifar10")))
    main(["fit", f"--config={path}", *QUICK, f"--log_dir={folder}"])
    [best] = folder.rglob("best.ckpt")
    return best


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Put one configuration over another, as a second ``--config`` does."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        fresh = both and value.get("class_path", merged[key].get("class_path")) != merged[key].get(
            "class_path"
        )
        merged[key] = merge(merged[key], value) if both and not fresh else value
    return merged


def joined(name: str, overlay: Path | None = None) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())
    if overlay is not None:
        found = merge(found, yaml.safe_load(overlay.read_text()))
    return merge(found, TINY)


def drawn(rng: random.Random, source: Path) -> dict[str, Any]:
    """A shipped configuration, by itself or with one of the overlays."""
    name = rng.choice(RUNS)
    overlays = [p for f in FOLDERS.get(name, ()) for p in sorted(ROOT.glob(f"configs/{f}/*.yaml"))]
    found = joined(name, rng.choice([None, *overlays]))
    if name == "transfer_cifar100":
        found["model"]["init_args"]["init_from"] = str(source)
    return found


class HungError(BaseException):
    """It did not end in time; no code catches this."""


def run(arguments: list[str]) -> int:
    """Exit code of a command, which has so many seconds."""

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(SECONDS)
    try:
        return main(arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def verdict(code: int, said: str, folder: Path) -> str:
    """What is wrong with how a command ended; nothing if all is well."""
    lines = [line for line in said.splitlines() if line.startswith("tl: ")]
    if "Traceback" in said:
        return "a traceback"
    whole = list(folder.rglob("results.json"))
    if code == 0:
        return "" if whole else "a run without results"
    if code not in (1, 2):
        return f"exit code {code}"
    if len(lines) != 1:
        return f"{len(lines)} lines"
    # what a step has been taken in stays, and is whole
    left = [*folder.rglob("*.tmp"), *([] if "at step" in lines[0] else folder.rglob("version_*"))]
    return f"{left[0].name} is left" if left else ""


@pytest.mark.parametrize("chunk", range(CASES // CHUNK))
def test_a_mistake_runs_or_is_one_line(
    chunk: int, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    for case in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        rng = random.Random(case)  # noqa: S311 - draws mistakes, no secrets
        folder = tmp_path / str(case)
        folder.mkdir()
        what, text = mutate(drawn(rng, source), rng, folder)
        path = folder / "mistake.yaml"
        path.write_text(text, encoding="utf-8")
        code = run(["fit", f"--config={path}", *QUICK, f"--log_dir={folder}"])
        said = capfd.readouterr().err
        if problem := verdict(code, said, folder):
            wrong.append(f"case {case}, {what}: {problem} ({code})\n{said[-600:]}")
    assert not wrong, "\n".join(wrong)
