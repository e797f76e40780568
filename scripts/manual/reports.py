"""Sections of the benchmarks page from the reports of studies that lie in `scripts/reports/`."""

from __future__ import annotations

import re
from pathlib import Path


def report_sections(root: Path) -> str:
    """Return the reports of `scripts/reports/<study>/report.md` as Markdown, with their figures.

    A report begins with the study's name and its question, which becomes the heading.

    Args:
        root: The repository.
    """
    parts = []
    for path in sorted(root.glob("scripts/reports/*/report.md")):
        text = re.sub(r"^(#+) ", r"#\1 ", path.read_text(), flags=re.MULTILINE)
        _, question, rest = text.split("\n\n", 2)
        figures = [
            f"![{file.stem.replace('_', ' ')}](figures/{name})"
            if file.suffix == ".png"
            else f"Raw numbers of every run: [{file.name}](figures/{name})."
            for name, file in _named(path)
        ]
        command = f"`python -m tl.cli study run configs/studies/{path.parent.name}.yaml`"
        parts.append("\n\n".join([f"## {question}", command, rest.strip(), *figures]))
    return "\n\n".join(parts)


def report_figures(root: Path) -> dict[str, Path]:
    """Return figures and raw numbers of the reports by the names that the page gives them.

    Args:
        root: The repository.
    """
    return dict(each for path in root.glob("scripts/reports/*/report.md") for each in _named(path))


def _named(report: Path) -> list[tuple[str, Path]]:
    study = report.parent
    files = [*sorted(study.glob("*.csv")), *sorted(study.glob("*.png"))]
    return [(f"{study.name}-{file.name}", file) for file in files]
