"""``tl new``: a small project of one's own that trains at once."""

from __future__ import annotations

import argparse
import re
import shlex
from importlib.resources import files
from pathlib import Path

#: Templates are packaged with this ending, so that nothing takes them for modules of the package.
_ENDING = ".txt"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl new``."""
    parser.add_argument("folder", help="Folder to write, new or empty; its name names the project.")


def run(given: argparse.Namespace) -> None:
    """Write the project, and print what to type next."""
    folder = Path(given.folder).expanduser()
    names = write_project(folder)
    print(f"{folder}: {', '.join(names)}")  # noqa: T201
    print(f"next: cd {shlex.quote(str(folder))} && tl fit --config config.yaml")  # noqa: T201


def write_project(folder: Path) -> list[str]:
    """Write a project with a configuration, a data module, a task, a test and a README.

    Returns:
        Names of the files.

    Raises:
        ValueError: If the folder holds anything, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a new or an empty folder.")
    if folder.is_dir() and (found := sorted(path.name for path in folder.iterdir())):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ValueError(
            f"{folder} is not empty: it holds {found[0]}{more}; name a new or an empty folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9]+", "_", folder.resolve().name).strip("_") or "project"
    written = []
    for template in sorted(files("tl.cli").joinpath("starter").iterdir(), key=lambda t: t.name):
        file = folder / template.name.removesuffix(_ENDING)
        text = template.read_text(encoding="utf-8").replace("{name}", name)
        file.write_text(text, encoding="utf-8")
        written.append(file.name)
    return written
