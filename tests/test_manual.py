"""The pages that are generated, and the navigation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scripts.manual.methods import measured_costs, method_pages
from scripts.manual.reports import report_figures, report_sections
from scripts.manual.rooms import PICTURE, rooms

ROOT = Path(__file__).resolve().parents[1]
PAGES = {path: text for pages in method_pages(ROOT).values() for path, text in pages}


def test_every_method_has_a_page() -> None:
    wanted = {
        f"methods/{family}/{path.stem}.md"
        for family in ("transfer", "balancing", "backbones")
        for path in ROOT.glob(f"configs/{family}/*.yaml")
    }
    assert wanted == PAGES.keys()
    assert len({text.splitlines()[0] for text in PAGES.values()}) == len(PAGES)


def test_a_page_holds_what_yaml_docstring_and_measurement_say() -> None:
    page = PAGES["methods/balancing/pcgrad.md"]
    assert page.startswith("# PCGrad\n\nConflicting gradients projected")
    assert "configs/balancing/pcgrad.yaml\n```" in page
    assert "class_path: torchjd.aggregation.PCGrad\n```" in page
    assert "1.64 (1.62 to 1.72) with shared images" in page
    assert "::: torchjd.aggregation.PCGrad\n" in page
    lora = PAGES["methods/transfer/lora.md"]
    assert "::: tl.backbones.LoraBackbone\n" in lora
    assert "has not been measured" in lora


def test_costs_come_from_the_header_of_the_benchmark() -> None:
    costs = measured_costs(ROOT / "scripts" / "benchmark_balancing.py")
    assert costs["famo"] == ("1.34 (1.32 to 1.35)", "1.35 (1.28 to 1.38)")
    assert {path.stem for path in ROOT.glob("configs/balancing/*.yaml")} >= {"famo", *costs} - {
        "mtl_backward"
    }


def test_a_page_that_nobody_named_is_in_the_navigation() -> None:
    pytest.importorskip("mkdocs")
    from scripts.manual.hooks import navigation  # noqa: PLC0415 - needs mkdocs

    assert navigation(["index.md", "new.md", "transfer.md"]) == [
        {"Begin": ["index.md"]},
        {"Learn": ["transfer.md"]},
        {"More": ["new.md"]},
    ]


def test_roles_in_docstrings_become_code() -> None:
    pytest.importorskip("griffe")
    from scripts.manual.docstrings import as_markdown  # noqa: PLC0415 - needs griffe

    said = as_markdown("By :class:`~tl.tasks.Task`, as in `Paper <https://a.org/b.pdf>`_.")
    assert said == "By `Task`, as in [Paper](https://a.org/b.pdf)."


def test_reports_of_studies_become_sections(tmp_path: Path) -> None:
    assert report_sections(tmp_path) == ""
    study = tmp_path / "scripts" / "reports" / "balancing"
    study.mkdir(parents=True)
    (study / "report.md").write_text("# balancing\n\nDo they?\n\n## Ranks\n\n| a |\n")
    (study / "test_acc.png").touch()
    (study / "runs.csv").touch()
    said = report_sections(tmp_path)
    assert said.startswith(
        "## Do they?\n\n`python -m tl.cli study run configs/studies/balancing.yaml`"
    )
    assert "### Ranks" in said
    assert said.endswith("![test acc](figures/balancing-test_acc.png)")
    assert "[runs.csv](figures/balancing-runs.csv)" in said
    assert report_figures(tmp_path) == {
        "balancing-runs.csv": study / "runs.csv",
        "balancing-test_acc.png": study / "test_acc.png",
    }


def test_the_picture_of_rooms_is_what_the_data_module_draws() -> None:
    there = torch.from_numpy(np.array(Image.open(PICTURE))).permute(2, 0, 1)
    apart = (rooms().float() - there.float()).abs()
    assert apart.mean() < 1  # of 255: other machines round otherwise
