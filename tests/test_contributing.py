"""The recipes of CONTRIBUTING.md work: they are followed in a copy, and their tests pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^## (An? [\w ]+)\n(.*?)(?=^## )", TEXT, re.DOTALL | re.MULTILINE))
# a numbered step: the file it names, and its code; `In` continues a file that exists
STEP = re.compile(
    r"^\d\. (In )?`([\w/.]+)`[^\n]*:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL | re.MULTILINE
)
RUN_BY_HEADER = "test_a_config_runs_by_the_command_in_its_header"
STRUCTURE = ("test_tests_mirror_the_code", "test_imports_run_one_way")


def copy_repository(folder: Path) -> Path:
    """Copy what the recipes touch."""
    shutil.copytree(ROOT / "tl", folder / "tl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def follow(recipe: str, folder: Path) -> list[str]:
    """Take each step of a recipe; return the files that it adds."""
    added = []
    for continues, name, code in STEP.findall(RECIPES[recipe]):
        path = folder / name
        assert path.exists() == bool(continues), f"{recipe}: {name}"
        with path.open("a") as file:
            file.write(("\n" if continues else "") + code)
        if not continues:
            added.append(name)
    return added


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the `tl` that lies there."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_is_a_recipe_for_each_kind_of_addition() -> None:
    kinds = {"A balancer", "A penalty", "A task", "A data module", "A backbone", "A verb"}
    assert set(RECIPES) == kinds
    for recipe, text in RECIPES.items():
        steps = [name for _, name, _ in STEP.findall(text)]
        assert len(steps) == text.count("\n```\n"), f"{recipe} has code without a file"
        assert any(name.startswith("tests/") for name in steps), recipe


@pytest.fixture(scope="module")
def contributed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A copy of the repository in which all recipes were followed, and the files they added."""
    folder = copy_repository(tmp_path_factory.mktemp("copy"))
    return folder, [name for recipe in RECIPES for name in follow(recipe, folder)]


def test_the_recipes_work(contributed: tuple[Path, list[str]]) -> None:
    """Their tests pass, their overlays run by their headers, and their files are in their place."""
    folder, added = contributed
    tests = [name for name in added if name.startswith("tests/")]
    for name in added:
        if name.startswith("configs/"):
            tests.append(f"tests/test_configs.py::{RUN_BY_HEADER}[{name}]")
        elif name.startswith("tl/"):
            tests += [f"tests/test_structure.py::{rule}[{name}]" for rule in STRUCTURE]
    # one process, because importing Lightning takes longer than the tests
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_code_is_formatted_and_lint_free(contributed: tuple[Path, list[str]]) -> None:
    pytest.importorskip("ruff")
    folder, added = contributed
    python = [name for name in added if name.endswith(".py")]
    for words in (("format", "--check", "--diff"), ("check", "--quiet")):
        done = run(folder, "-m", "ruff", *words, "--no-cache", *python)
        assert done.returncode == 0, done.stdout[-3000:]
