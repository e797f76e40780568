"""The house: imports run one way, every module imports alone, tests mirror the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(ROOT.glob("tl/**/*.py"))
# a room may import those below it, and its own
FLOORS = (
    ("private",),  # other libraries' private names
    ("checkpoints",),
    ("reading", "counting"),
    ("report",),  # reads files only
    ("tasks", "batch", "hardware", "signals"),
    ("data", "backbones", "optim", "transfer", "balancing"),
    ("modules",),
    ("questions",),  # maths on features, which callbacks measure too
    ("callbacks",),
    ("runs",),
    ("serving",),
    ("study",),  # reads files and starts processes only
    ("cli",),
)
# given by the design: weights are matched against stages, batches against tasks
SIDEWAYS = {
    ("tasks", "batch"),  # a task shows samples beside its answers
    ("checkpoints", "data"),  # downloads lie in the cache of the data
    ("transfer", "data"),
    ("transfer", "backbones"),
    ("transfer", "optim"),
    ("backbones", "transfer"),  # a library's weights are read like any others
    ("data", "backbones"),  # a tokenizer is found where a network's weights are
    ("backbones", "data"),  # and it is known by its hash
    ("optim", "backbones"),  # parameter groups follow stages
}
MOST_LOOSE_FILES = 6


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "tl").with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("tl.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return  # the front door opens every room, when asked
    floor = next(i for i, rooms in enumerate(FLOORS) if here in rooms)
    for other in imported_rooms(path) - {here}:
        below = any(other in rooms for rooms in FLOORS[:floor])
        assert below or (here, other) in SIDEWAYS, f"{here} imports {other}"


def test_few_files_lie_beside_the_rooms() -> None:
    assert len(list((ROOT / "tl").glob("*.py"))) <= MOST_LOOSE_FILES


def test_every_module_imports_alone() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.stem != "__main__"
    ]
    # A package loads before its modules, so that they are tried on top of it, each anew.
    code = (
        "import importlib, sys\n"
        "def forget(kept=()):\n"
        "    for name in {m for m in sys.modules if m.split('.')[0] == 'tl'}.difference(kept):\n"
        "        del sys.modules[name]\n"
        "package = None\n"
        "for name in sorted(sys.argv[1:], key=lambda name: name.rpartition('.')):\n"
        "    if name.rpartition('.')[0] != package:\n"
        "        package = name.rpartition('.')[0]\n"
        "        forget()\n"
        "        importlib.import_module(package or name)\n"
        "        loaded = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        "    forget(loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_tl_alone_costs_no_torch() -> None:
    code = "import sys, tl; assert 'torch' not in sys.modules; tl.TransferModule"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.stem not in ("__init__", "__main__")],
    ids=lambda p: p.relative_to(ROOT).as_posix(),
)
def test_tests_mirror_the_code(path: Path) -> None:
    inside = path.relative_to(ROOT / "tl")
    assert (ROOT / "tests" / inside.with_name(f"test_{inside.name}")).exists()


def test_nothing_is_left_open() -> None:
    for path in [*MODULES, *ROOT.glob("scripts/*.py"), ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        text = path.read_text()
        for word in ("TODO", "FIXME", "XXX", "RESULTS"):
            assert word not in text, f"{word} in {path}"
