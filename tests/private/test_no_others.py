"""No file outside `tl/private` uses a private name of another library."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

import tl
from tl.private import lightning, torch

ROOT = Path(__file__).resolve().parents[2]
FILES = [p for p in sorted(ROOT.glob("tl/**/*.py")) if p.parent.name != "private"]
INHERITED = {**lightning.INHERITED, **torch.INHERITED}
BY_TORCH = {"_backward_cls"}  # the metaclass of autograd functions sets it
BY_PYTHON = {"_abc_impl", "_is_protocol", "_is_runtime_protocol", "_fields", "_field_defaults"}
OWN = ("self", "cls", "super()")
NOTEBOOKS = {"_repr_html_", "_repr_png_"}  # IPython's documented protocol
DOCUMENTED = {"os._exit"}  # in the standard library's manual
# texts that look like a name of an attribute; each is ours
TEXTS = {
    "_",  # joins words
    "_no_decay",  # end of a parameter group's name
    "_coarse",  # end of a task's name
    *("_T", "_R"),  # type variables
    # attributes of our own modules, data and loaders
    *("_outer", "_handed_down", "_built", "_batches", "_given", "_missing"),
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined_by_us() -> set[str]:
    """Names that our code gives to functions, classes, variables and attributes of `self`."""
    names: set[str] = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in OWN:
                names |= {node.attr} if isinstance(node.ctx, ast.Store) else set()
    return names


OURS = defined_by_us()
TABLED = {name for names in INHERITED.values() for name in names}


def foreign_names(source: str) -> list[str]:
    """List what a file uses of other libraries that is private there."""
    found = []
    tree = ast.parse(source)
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    endings = {id(part) for string in strings for part in string.values}  # of a name made here
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in NOTEBOOKS:
            text = ast.unparse(node)
            inherited = ast.unparse(node.value) in OWN
            known = node.attr in OURS | TABLED if inherited else text in DOCUMENTED
            if not known:
                found.append(text)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            module = getattr(node, "module", None) or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += [n for n in names if "._" in n.replace("__", "") and not n.startswith("tl.")]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) in endings:
                continue
            text = node.value
            if is_private(text) and text.isidentifier() and text not in TEXTS:
                found.append(repr(text))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_file_uses_private_names_of_other_libraries(path: Path) -> None:
    found = foreign_names(path.read_text())
    assert found == [], f"{path.name} uses {', '.join(found)}: give them a name in tl/private"


@pytest.mark.parametrize(
    "source",
    [
        "trainer.fit_loop._should_accumulate()",
        "torch._foreach_norm(grads)",
        "import torch._dynamo",
        "from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher",
        "from jsonargparse._common import parser_context",
        "module._ddp_params_and_buffers_to_ignore = []",
        "setattr(module, '_hparams_initial', {})",
        "class A(Trainer):\n    def f(self): self._run_stage()",
    ],
)
def test_a_new_one_would_be_found(source: str) -> None:
    assert len(foreign_names(source)) == 1


def overridden(kind: type) -> list[str]:
    """List methods and attributes of a class of ours that replace private ones of a base's."""
    bases = [base for base in kind.__mro__[1:] if not base.__module__.startswith("tl.")]
    return [
        name
        for name in filter(is_private, vars(kind))
        if name not in BY_PYTHON | BY_TORCH and any(name in vars(base) for base in bases)
    ]


def test_what_our_classes_override_is_tabled() -> None:
    """A method of ours with a private name of a base's replaces it, wanted or not."""
    names = [module.name for module in pkgutil.walk_packages(tl.__path__, "tl.")]
    kinds = {
        kind
        for name in names
        if not name.endswith("__main__")
        for kind in vars(importlib.import_module(name)).values()
        if isinstance(kind, type) and kind.__module__.startswith("tl.")
    }
    assert len(kinds) > 100
    found = {f"{kind.__name__}.{name}" for kind in kinds for name in overridden(kind)}
    assert {name for name in found if name.rpartition(".")[2] not in TABLED} == set()
