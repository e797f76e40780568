"""What code networks run: sources of somebody's own modules, versions of libraries."""

from __future__ import annotations

import ast
import platform
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

_INSTALLED = frozenset({"site-packages", "dist-packages"})


class UnknownCodeError(ValueError):
    """A module whose source cannot be read."""


def code_of(names: Iterable[str]) -> dict[str, str]:
    """Return what modules hold: the version of a library, the source of any other module.

    Modules of yours that such a module imports at its top count too: a helper there may compute the
    features.

    Args:
        names: Names of modules that are imported.

    Returns:
        Versions by library, and sources by module, sorted by name.

    Raises:
        UnknownCodeError: If a source cannot be read, as in a notebook.
    """
    versions: dict[str, str] = {}
    sources: dict[str, str] = {}
    left = list(names)
    while left:
        name = left.pop()
        library = name.partition(".")[0]
        if name in sources or library in versions:
            continue
        module = sys.modules.get(name)
        version = _version(library, module)
        if version is not None:
            versions[library] = version
        elif module is not None and (file := getattr(module, "__file__", None)):
            sources[name], imported = _read(module, Path(file))
            left += imported
        elif not hasattr(module, "__path__"):  # a folder without a file has no code
            raise UnknownCodeError(f"the source of the module {name!r} cannot be read")
    return dict(sorted({**versions, **sources}.items()))


def _version(library: str, module: ModuleType | None) -> str | None:
    """Return the version of what a library's module belongs to; ``None`` for your own."""
    if library in sys.stdlib_module_names:
        return platform.python_version()
    if not _INSTALLED & {*Path(getattr(module, "__file__", None) or "").parts}:
        return None
    version = getattr(sys.modules.get(library), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _read(module: ModuleType, file: Path) -> tuple[str, list[str]]:
    """Return the source of a module, and the names of modules that it imports at its top."""
    try:
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError) as error:
        raise UnknownCodeError(
            f"the source of the module {module.__name__!r} cannot be read"
        ) from error
    package = module.__package__ or ""
    return source, [name for node in tree.body for name in _imported(node, package)]


def _imported(node: ast.stmt, package: str) -> Iterator[str]:
    """Yield the modules that a statement imports, of those that are loaded."""
    if isinstance(node, ast.Try):
        for inner in node.body:
            yield from _imported(inner, package)
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        start = "." * node.level + (node.module or "")
        whole = resolve_name(start, package) if node.level else start
        names = [whole, *(f"{whole}.{alias.name}" for alias in node.names)]
    yield from (name for name in names if name in sys.modules)
