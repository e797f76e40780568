from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.test_verbs import failure
from tl.cli import main
from tl.cli.new import write_project

FILES = [
    *(".gitignore", "README.md", "config.yaml", "own_data.py", "own_task.py", "pyproject.toml"),
    "test_project.py",
]


@pytest.fixture(autouse=True)
def _forget_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import the modules of each project anew, and leave none to other tests."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("own_data", "own_task", "test_project"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_its_files_are_named_with_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", str(tmp_path / "my shapes")]) == 0
    written, following = capsys.readouterr().out.splitlines()
    assert written.endswith(", ".join(FILES))
    assert following == f"next: cd '{tmp_path}/my shapes' && tl fit --config config.yaml"
    assert "name: my_shapes\n" in (tmp_path / "my shapes" / "config.yaml").read_text()
    assert "{name}" not in (tmp_path / "my shapes" / "README.md").read_text()


def test_a_folder_that_holds_something_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("mine")
    said = failure(capsys, "new", str(tmp_path))
    assert "is not empty: it holds a.txt; name a new or an empty folder." in said
    assert "is a file" in failure(capsys, "new", str(tmp_path / "a.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_its_configuration_trains_and_its_tests_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the folder itself: `tl fit` for two steps, and pytest on its file."""
    project = tmp_path / "shapes"
    assert write_project(project) == FILES
    monkeypatch.chdir(project)
    few = ("--data.count=100", "--trainer.limit_train_batches=2", "--epochs=1")
    quiet = ("--dashboard.graph=false", "--throughput.mfu=false", "--trainer.accelerator=cpu")
    assert main(["fit", "--config", "config.yaml", *few, *quiet]) == 0
    assert (project / "lightning_logs" / "shapes" / "version_0" / "results.json").exists()
    assert pytest.main(["-q", "-p", "no:cacheprovider", str(project)]) == 0
