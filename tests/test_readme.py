"""The commands and examples of the README and the manual do what they say."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.images import class_folders
from tl import cli
from tl.cli.verbs import VERBS, parser_of

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {"README.md": README} | {
    f"docs/{path.name}": path.read_text() for path in sorted(ROOT.glob("docs/*.md"))
}
MANUAL = "\n".join(PAGES.values())
# a block, with its mark if it has one: `<!-- file NAME -->` is saved for the blocks after it,
# another mark on Python runs it
BLOCK = re.compile(r"(?:<!-- ([^\n]+) -->\n)?```(\w+)\n(.*?)```", re.DOTALL)
SHOWN = {"example": "val/hundred_coarse/acc", "tasks": "val/level/mae", "runs": "val/height/mae"}


def commands(text: str) -> list[str]:
    """Return the words after `tl.cli` of each command, its continued lines joined."""
    bash = "".join(code for _, language, code in BLOCK.findall(text) if language == "bash")
    lines = bash.replace("\\\n", " ").splitlines()
    return [line.split("tl.cli ", 1)[1] for line in lines if "tl.cli " in line]


COMMANDS = {command: page for page, text in PAGES.items() for command in commands(text)}


def block(name: str, language: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```", MANUAL, re.DOTALL)
    assert found, f"the manual has no block {name}"
    return found.group(1)


def save_files(page: str, folder: Path) -> None:
    """Save the files that a page shows."""
    for mark, _, code in BLOCK.findall(PAGES[page]):
        if mark.startswith("file "):
            (folder / mark.removeprefix("file ")).write_text(code)


def test_the_readme_is_short_and_has_its_commands() -> None:
    assert len(README.encode()) <= 8000
    assert len(COMMANDS) >= 30
    assert "pip install -e '.[dev]'" in block("tests", "bash")
    assert "quick.yaml" in block("run", "bash")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Parsed as it stands, with the configuration printed instead of run."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    save_files(COMMANDS[command], tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    verb, *rest = shlex.split(command, comments=True)
    if verb in VERBS:
        parser_of(verb).parse_args(rest)  # exits where it does not understand
        return
    if not any(word.startswith("--config") for word in rest):
        assert "--ckpt_path" in command, "it takes the configuration of that run"
        rest = ["--config=configs/multitask.yaml", *rest]
    code = cli.main([verb, *rest, "--print_config"])
    assert code == 0, capsys.readouterr().err
    assert "class_path: tl.modules." in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(set(re.findall(r"configs/[\w/]+\.yaml", MANUAL))))
def test_files_that_are_named_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(link).exists(), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_python_and_yaml_can_be_read(page: str) -> None:
    for _, language, code in BLOCK.findall(PAGES[page]):
        if language == "python":
            compile(code, page, "exec")
        elif language == "yaml":
            yaml.safe_load(code)


@pytest.mark.parametrize(
    "page",
    [
        page
        for page, text in PAGES.items()
        for mark, language, _ in BLOCK.findall(text)
        if language == "python" and mark and page != "README.md"
    ],
)
def test_examples_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of a page with a mark, in their order."""
    save_files(page, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for mark, language, code in BLOCK.findall(PAGES[page]):
        if language == "python" and mark and not mark.startswith("file "):
            exec(compile(code, page, "exec"), names)  # noqa: S102 - the manual's own
            assert SHOWN.get(mark, "") in capsys.readouterr().out


def test_the_twelve_lines_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a few synthetic images and steps."""
    code = block("twelve", "python")
    assert len([line for line in code.splitlines() if line]) <= 12
    quick = ", accelerator='cpu', trainer={'limit_train_batches': 1}"
    small = code.replace("epochs=10", f"epochs=1{quick}").replace("epochs=5", f"epochs=2{quick}")
    few = "CifarDataModule(name, images='generated', generated_size=300)"
    small = small.replace("CifarDataModule(name)", few)
    assert (small.count("limit_train_batches"), small.count("generated_size")) == (2, 1)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), (9, 99, 199)).save("photo.png")
    class_folders(tmp_path / "photos", ["leaf", "rose"], 8)
    exec(compile(small, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102
    assert capsys.readouterr().out.strip()


def fit(overlay: str, folder: Path, *more: str) -> dict[str, float]:
    """Metrics of a short run of the shipped configuration with a block of the README over it."""
    (folder / "overlay.yaml").write_text(block(overlay, "yaml"))
    code = cli.main(
        [
            *("fit", "--config=configs/multitask.yaml", "--config=configs/overlays/quick.yaml"),
            *(f"--config={folder / 'overlay.yaml'}", f"--log_dir={folder}", "--name=shown"),
            *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--dashboard.graph=no"),
            *("--trainer.enable_progress_bar=false", "--throughput.mfu=false"),
            *("--dashboard.every_n_epochs=0", *more),
        ]
    )
    if code:
        raise SystemExit(code)
    results = json.loads((folder / "shown" / "version_0" / "results.json").read_text())
    metrics: dict[str, float] = results["metrics"]
    return metrics


def test_balanced_sampling_is_set_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(ROOT)
    with caplog.at_level("INFO"):
        metrics = fit("balanced", tmp_path, "--data.init_args.generated_size=300")
    assert {"val/cifar10/acc", "val/cifar100_fine/acc", "val/cifar100_coarse/acc"} <= {*metrics}
    assert "balanced sampling by cifar100_coarse: each of its 20 classes" in caplog.text


def test_a_second_domain_is_set_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for source in ("photos", "drawings"):
        for number, kind in enumerate(("cat", "dog") * 8):
            path = tmp_path / "data" / source / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 9, 100 * (kind == "cat"))).save(path)
    own = (
        f"--data.init_args.root={tmp_path / 'data'}",
        *("--data.init_args.images=null", "--data.init_args.generated_size=null"),
        *("--data.init_args.download=null", "--data.init_args.offline=null"),
    )
    metrics = fit("second-domain", tmp_path, *own)
    assert {"train/photos/loss", "val/photos/acc", "val/drawings/acc"} <= {*metrics}
    assert "train/drawings/loss" not in metrics
    assert metrics["val/loss"] == metrics["val/photos/loss"]
    with pytest.raises(SystemExit):
        fit("second-domain", tmp_path, *own, "--data.init_args.shares={drawing: photos}")
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "tl: `shares` names 'drawing', which is not a task of the data; they define photos, "
        "drawings."
    )


def test_what_is_in_the_box_can_be_imported() -> None:
    rows = re.findall(r"\| `(tl\.[\w.]+)` \| (.*) \|", PAGES["docs/box.md"])
    assert len(rows) >= 5
    for name, text in rows:
        package = importlib.import_module(name)
        for word in re.findall(r"`([A-Z]\w+)`", text):
            assert hasattr(package, word), f"{name} has no {word}"
