"""``tl list``: what is in the box, each with a line and its paper; read without importing torch."""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

from tl.cli.messages import one_line

PACKAGE = Path(__file__).resolve().parents[1]
#: By kind: the folders of its YAML files, in ``configs/``.
_FILES = {"balancing": "balancing", "transfer": "transfer", "studies": "studies"}
#: By kind: the package whose public classes it is, and how their names end.
_CLASSES = {
    "sources": ("data", "DataModule"),
    "backbones": ("backbones", ""),
    "tasks": ("tasks", ""),
}
KINDS = (*_FILES, *_CLASSES)
#: How a user writes one of a kind.
_USES = {
    "balancing": "tl fit --config configs/multitask.yaml --balancer NAME",
    "transfer": "tl fit --config configs/transfer_cifar100.yaml --strategy NAME",
    "studies": "tl study run configs/studies/NAME.yaml",
    "sources": "data: {class_path: tl.data.NAME} in a configuration",
    "backbones": "backbone: {class_path: tl.backbones.NAME} in a configuration",
    "tasks": "tasks: [{class_path: tl.tasks.NAME, init_args: {name: ...}}] in a configuration",
}
_BASES = {
    "AtomicCheckpointIO",
    "Backbone",
    "ImageDataModule",
    "NoProfiler",
    "Penalty",
    "SharedBackboneModule",
    "Start",
    "Step",
    "Task",
}  # base classes for your own, and classes that no option takes


def configs_folder() -> Path | None:
    """Return the folder of shipped configurations: here, or beside the package in a clone."""
    places = (Path("configs"), PACKAGE.parent / "configs")
    return next((place for place in places if (place / "balancing").is_dir()), None)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl list``."""
    parser.add_argument("kind", choices=KINDS, metavar="|".join(KINDS), help="What to list.")


def run(given: argparse.Namespace) -> None:
    """Print the entries of a kind and how to use one."""
    rows = list(entries(given.kind))
    width = max((len(name) for name, _ in rows), default=0)
    # a file has a line per entry
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for name, line in rows:
        print(hanging(f"{name:{width}}  ", line, columns))  # noqa: T201
    print(f"\nuse: {_USES[given.kind]}", file=sys.stdout)  # noqa: T201


def hanging(start: str, text: str, columns: int) -> str:
    """Return a text after a start, its further lines below the first one's text."""
    indent = " " * len(start)
    width = max(columns, len(start) + 20)
    return fill(text, width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False)


def entries(kind: str) -> Iterator[tuple[str, str]]:
    """Yield name and line of each entry, in order of names.

    Args:
        kind: One of :data:`KINDS`.

    Raises:
        ValueError: If the shipped configurations are not there.
    """
    if kind in _CLASSES:
        package, end = _CLASSES[kind]
        yield from public_classes(package, end)
        return
    folder = configs_folder()
    if folder is None:
        raise ValueError(
            "There is no folder `configs` here; run this in a clone of the repository, which holds "
            "the shipped configurations."
        )
    for path in sorted((folder / _FILES[kind]).glob("*.yaml")):
        yield path.stem, header_of(path)


def header_of(path: Path) -> str:
    """Return the sentence that a YAML file starts with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#") or not text:
            break
        lines.append(text)
    return first_sentence(" ".join(lines))


def first_sentence(text: str) -> str:
    """Return the first sentence of a text, of which ``al.`` and initials are part."""
    text = re.sub(r":\w+:`[~.]?([^`]+)`", r"\1", " ".join(text.split())).replace("`", "")
    found = re.match(r".*?(?<!\bal)(?<!\bcf)(?<!e\.g)[.?!](?= |$)", text)
    return (found.group() if found else text).strip()


def public_classes(package: str, end: str) -> Iterator[tuple[str, str]]:
    """Yield the public classes of a package with the first sentence of docstring and paper.

    Args:
        package: Its name below ``tl``.
        end: How their names end.
    """
    folder = PACKAGE.joinpath(*package.split("."))
    found: dict[str, str] = {}
    for module, wanted in _imports_of(folder / "__init__.py"):
        for part in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(part, ast.ClassDef) and part.name in wanted - _BASES:
                line = _line_of(ast.get_docstring(part) or "")
                if part.name.endswith(end) and line:
                    found[part.name] = line
    yield from sorted(found.items())


def _imports_of(file: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield the files that a package imports names from, and the names; packages are followed."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tl."):
            path = PACKAGE.parent / Path(*node.module.split("."))
            if path.is_dir():
                yield from _imports_of(path / "__init__.py")
            else:
                yield path.with_suffix(".py"), {alias.name for alias in node.names}


def _line_of(docstring: str) -> str:
    docstring = docstring.partition("\nArgs:")[0]
    line = first_sentence(docstring.partition("\n\n")[0])
    paper = re.search(r"\(([A-Z][^()]*, \d{4}[^()]*)\)", docstring)
    if paper is None:
        return line
    known = paper.group(1).split(",")[0] in line
    return line if known else f"{line.rstrip('.')} ({one_line(paper.group(1))})."
