"""Code in a checkpoint runs through no door, whatever the environment says."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.test_entry import SOURCE, arguments
from tests.server import Answers, serving
from tl import TransferModule
from tl.checkpoints.errors import CheckpointError
from tl.cli import main

ROOT = Path(__file__).resolve().parents[1]
RUN = "source_cifar10"
SMALL = ("--trainer.limit_train_batches=1",)
PLACES = {
    "state": ("state_dict", "heads.cifar10.weight"),
    "hyper-parameters": ("hyper_parameters", "label_smoothing"),
    "callbacks": ("callbacks", "Evil"),
    "optimizer": ("optimizer_states", "lr"),
}
FORMS: dict[str, dict[str, Any]] = {
    "zip": {},
    "zip, protocol 4": {"pickle_protocol": 4},
    "legacy": {"_use_new_zipfile_serialization": False},
}
KINDS = [("state", form) for form in FORMS] + [(p, "zip") for p in PLACES if p != "state"]


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.makedirs, (self.marker, 0o777, True)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run's checkpoints; not to be changed."""
    folder = tmp_path_factory.mktemp("good")
    os.chdir(ROOT)
    main(arguments("fit", SOURCE, folder, *SMALL))
    return folder / RUN / "version_0" / "checkpoints"


@pytest.fixture(autouse=True)
def _unsafe_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def poisoned(good: Path, path: Path, marker: Path, place: str, form: str) -> Path:
    """Write a whole checkpoint of a run, with code in one place."""
    content = torch.load(good / "last.ckpt", weights_only=True)
    section, key = PLACES[place]
    if section == "optimizer_states":
        content[section][0]["param_groups"][0][key] = Evil(marker)
    else:
        content[section][key] = Evil(marker)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, **FORMS[form])
    return path


# A verb, and what follows its usual arguments.
FIT, LATEST = "--trainer.max_epochs=2", "--log_dir={runs}"
DOORS: dict[str, list[str]] = {
    "fit": ["fit", FIT, "--ckpt_path={evil}"],
    "fit, by its address": ["fit", FIT, "--ckpt_path={address}"],
    "resume": ["fit", FIT, LATEST, "--resume=auto"],
    "source": ["fit", FIT, "--model.init_args.init_from={evil}"],
    "source, by its address": ["fit", FIT, "--model.init_args.init_from={address}"],
    "validate": ["validate", "--ckpt_path={evil}"],
    "test": ["test", "--ckpt_path={evil}"],
    "test, latest": ["test", LATEST],
    "predict": ["predict", "--ckpt_path={evil}"],
    "lineage": ["lineage", "{evil}"],
    "lineage, by its address": ["lineage", "{address}"],
    "average": ["average", "{evil}", "{good}", "--out={runs}/out.ckpt", "--average-statistics"],
}


@pytest.fixture
def server() -> Iterator[Answers]:
    with serving() as answers:
        yield answers


@pytest.mark.parametrize("door", DOORS)
def test_no_code_runs(
    good: Path,
    tmp_path: Path,
    server: Answers,
    capsys: pytest.CaptureFixture[str],
    door: str,
) -> None:
    every = [("state", "zip")] if "address" in door else KINDS
    for number, (place, form) in enumerate(every):
        marker, runs = tmp_path / f"ran-{number}", tmp_path / "runs"
        path = runs / RUN / "version_0" / "checkpoints" / "last.ckpt"
        evil = poisoned(good, path, marker, place, form)
        shutil.copy(good.parent / "config.yaml", path.parents[1])
        server.bodies["/evil.ckpt"] = evil.read_bytes()
        address = f"{server.address}/evil.ckpt"
        verb, *more = [
            word.format(evil=evil, good=good / "last.ckpt", runs=runs, address=address)
            for word in DOORS[door]
        ]
        ours = verb in ("lineage", "average")
        code = main([verb, *more] if ours else arguments(verb, SOURCE, tmp_path, *SMALL, *more))
        assert code in (1, 2)
        said = capsys.readouterr().err.splitlines()
        [line] = [line for line in said if line.startswith("tl: ")]
        assert ("cannot resume from its" if door == "resume" else "os.makedirs") in line
        assert not marker.exists()
        assert not (runs / "out.ckpt").exists()


@pytest.mark.parametrize("by_address", [False, True])
def test_no_code_runs_where_a_module_is_loaded_in_python(
    good: Path, tmp_path: Path, server: Answers, by_address: bool
) -> None:
    evil = poisoned(good, tmp_path / "evil.ckpt", tmp_path / "ran", "state", "zip")
    found = {"/evil.ckpt": evil, "/good.ckpt": good / "best.ckpt"}
    server.bodies.update({path: file.read_bytes() for path, file in found.items()})
    places = [f"{server.address}{path}" if by_address else str(f) for path, f in found.items()]
    with pytest.raises(CheckpointError, match=r"os\.makedirs"):
        TransferModule.load_from_checkpoint(places[0])
    assert not (tmp_path / "ran").exists()
    loaded = TransferModule.load_from_checkpoint(places[1])
    state = torch.load(good / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_the_witness_is_fair(good: Path, tmp_path: Path) -> None:
    for place in PLACES:
        for form in FORMS:
            marker = tmp_path / f"{place}-{form}"
            path = poisoned(good, tmp_path / "evil.ckpt", marker, place, form)
            torch.load(path, weights_only=False)
            assert marker.exists()
