"""mkdocs' hooks: the navigation from the pages there are, and the pages that are generated."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.manual.methods import method_pages  # noqa: E402 - found by the line above
from scripts.manual.reports import report_figures, report_sections  # noqa: E402 - as above

# page or section in order; what is not there is left out, what is not named comes under "More"
GUIDES: dict[str, tuple[str, ...]] = {
    "Begin": ("index", "start", "fits", "python"),
    "Learn": ("transfer", "balancing", "questions", "self_supervision", "domains"),
    "Data and tasks": ("own_data", "dense", "text", "own_task", "own_data_module", "lightning"),
    "Runs": ("runs", "run_folder", "tensorboard", "loggers", "studies", "clusters", "deployment"),
    "Look up": ("box", "speed", "benchmarks", "troubleshooting", "contributing", "changelog"),
}
# files of the repository that are pages, too
COPIES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}


def navigation(pages: list[str]) -> list[dict[str, list[str]]]:
    """Sort pages into sections.

    Args:
        pages: Paths below `docs/`, without those that are generated in folders.
    """
    left = sorted(pages)
    found = []
    for section, names in GUIDES.items():
        here = [f"{name}.md" for name in names if f"{name}.md" in left]
        left = [page for page in left if page not in here]
        found.append({section: here})
    return [each for each in (*found, {"More": left}) if all(each.values())]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation."""
    written = [path.name for path in Path(config.docs_dir).glob("*.md")]
    methods = [{title: [path for path, _ in pages]} for title, pages in method_pages(ROOT).items()]
    config.nav = [*navigation([*written, *COPIES]), {"Methods": methods}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are generated, and the figures of the scripts."""
    for page, source in COPIES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for pages in method_pages(ROOT).values():
        for path, text in pages:
            files.append(File.generated(config, path, content=text))
    figures = {path.name: path for path in ROOT.glob("scripts/*.png")} | report_figures(ROOT)
    for name, figure in figures.items():
        files.append(File.generated(config, f"figures/{name}", abs_src_path=str(figure)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Add the reports of studies; let links to files beside `docs/` lead to their pages."""
    if page.file.src_uri == "benchmarks.md":
        markdown += f"\n\n{report_sections(ROOT)}"
    markdown = re.sub(r"\]\(\.\./scripts/([\w.]+\.png)\)", r"](figures/\1)", markdown)
    for copy, source in COPIES.items():
        markdown = markdown.replace(f"](../{source})", f"]({copy})")
    return markdown
