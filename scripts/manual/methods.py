"""A page for each method: what its YAML says, what it costs, and its class's docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# the order of the navigation
FAMILIES = {"transfer": "Transfer", "balancing": "Balancing", "backbones": "Streams per task"}
# keys that hold a method; the first one that is there gives the page's class
LONGEST_TITLE = 40  # characters
HOLDERS = ("balancer", "penalties", "strategy", "backbone")


def method_pages(root: Path) -> dict[str, list[tuple[str, str]]]:
    """Return pages, as path and Markdown, by family.

    Args:
        root: The repository.
    """
    costs = measured_costs(root / "scripts" / "benchmark_balancing.py")
    return {
        title: [
            (f"methods/{family}/{path.stem}.md", method_page(path, costs))
            for path in sorted((root / "configs" / family).glob("*.yaml"))
        ]
        for family, title in FAMILIES.items()
        if (root / "configs" / family).is_dir()
    }


def method_page(path: Path, costs: dict[str, tuple[str, str]]) -> str:
    """Return the page of a method as Markdown.

    Args:
        path: Its YAML.
        costs: Time of a step relative to the plain sum, on separate and on shared images.
    """
    text = path.read_text()
    comment, body = _split(text)
    said, command = _header(comment)
    title, _, rest = said.partition(": ")
    if len(title) > LONGEST_TITLE or not rest:
        title, rest = said.partition(" (")[0].partition(".")[0], said
    parts = [f"# {title}", f"{rest[:1].upper()}{rest[1:]}", command]
    parts += [f"## `configs/{path.parent.name}/{path.name}`", f"```yaml\n{body.strip()}\n```"]
    parts += ["## Cost", _cost(path, costs)]
    if classes := list(dict.fromkeys(_classes(yaml.safe_load(body)))):
        parts += [
            "## Reference",
            *(f"::: {name}\n    options: {{heading_level: 3}}" for name in classes),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def measured_costs(script: Path) -> dict[str, tuple[str, str]]:
    """Return what the header of `benchmark_balancing.py` measured, by the YAML's name.

    Args:
        script: The script.
    """
    header = ast.get_docstring(ast.parse(script.read_text())) or ""
    rows = re.findall(r"^\s*\| (\w+) \| ([^|]+) \| [^|]* \| ([^|]+) \|", header, re.MULTILINE)
    return {name: (separate.strip(), shared.strip()) for name, separate, shared in rows[1:]}


def _split(text: str) -> tuple[str, str]:
    """Split a YAML into its first comment and the rest."""
    lines = text.splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:count]), "\n".join(
        lines[count:]
    )


def _header(comment: str) -> tuple[str, str]:
    """Return what a comment says, and its commands as a block."""
    paragraphs = comment.split("\n\n")
    said = [part for part in paragraphs if not part.startswith("  ")]
    commands = [part for part in paragraphs if part.startswith("  ")]
    first, *more = (part.replace("\n", " ") for part in said)
    block = "\n".join(re.sub(r"^  ", "", part, flags=re.MULTILINE) for part in commands)
    return "\n\n".join([first, *more]), f"```bash\n{block}\n```" if block else ""


def _cost(path: Path, costs: dict[str, tuple[str, str]]) -> str:
    if path.stem in costs:
        separate, shared = costs[path.stem]
        return (
            f"Time of a training step relative to the plain sum, median with quartiles: {separate} "
            f"with separate images for each task, {shared} with shared images. ResNet-20, two "
            "tasks, 64 images of each, one CPU thread; `scripts/benchmark_balancing.py`."
        )
    return "The time of a step has not been measured for this method."


def _classes(node: Any) -> Iterator[str]:  # noqa: ANN401 - YAML
    """Yield the class paths of methods, outermost first."""
    for holder in HOLDERS:
        for value in _values(node, holder):
            yield from _class_paths(value)


def _values(node: Any, key: str) -> Iterator[Any]:  # noqa: ANN401 - YAML
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        else:
            for value in node.values():
                yield from _values(value, key)


def _class_paths(node: Any) -> Iterator[str]:  # noqa: ANN401 - YAML
    for value in node if isinstance(node, list) else [node]:
        found = value.get("class_path") if isinstance(value, dict) else value
        if isinstance(found, str) and "." in found:
            yield found
