"""Sections of the benchmarks page from the reports of studies that lie in `reports/`."""

from __future__ import annotations

import re
from pathlib import Path


def report_sections(root: Path) -> str:
    """Return the reports of `reports/<study>/report.md` as Markdown, with their figures.

    Args:
        root: The repository.
    """
    parts = []
    for path in sorted(root.glob("reports/*/report.md")):
        text = re.sub(r"^(#+) ", r"#\1 ", path.read_text(), flags=re.MULTILINE)
        figures = [
            f"![{figure.stem.replace('_', ' ')}](figures/{name})" for name, figure in _named(path)
        ]
        command = f"`python -m tl.cli study run configs/studies/{path.parent.name}.yaml`"
        first, _, rest = text.partition("\n")
        parts.append("\n\n".join([first, command, rest.strip(), *figures]))
    return "\n\n".join(parts)


def report_figures(root: Path) -> dict[str, Path]:
    """Return the figures of the reports by the name that the page gives them.

    Args:
        root: The repository.
    """
    return dict(each for path in root.glob("reports/*/report.md") for each in _named(path))


def _named(report: Path) -> list[tuple[str, Path]]:
    study = report.parent
    return [(f"{study.name}-{figure.name}", figure) for figure in sorted(study.glob("*.png"))]
