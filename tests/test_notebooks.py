"""The notebooks run from the first cell to the last, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
# the size that the cell with the tag `parameters` sets instead, and what the last cell shows
SMALL = {
    "transfer": (200, "re-initialised"),
    "multitask": (200, "PCGrad"),
    "own_data": (20, "model.pt2"),
}
LIMITS = {f"limit_{split}_batches": 1 for split in ("train", "val", "test")}


def test_there_are_three() -> None:
    assert {path.stem for path in NOTEBOOKS} == {*SMALL}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    size, shown = SMALL[path.stem]
    quick = {**LIMITS, "enable_progress_bar": False}
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells), "outputs are not kept"
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        given = "parameters" in cell["metadata"].get("tags", ())
        small = f"epochs, size, limits = 1, {size}, {quick}"
        code = small if given else "".join(cell["source"])
        exec(compile(code, f"{path.name}[{number}]", "exec"), names)  # noqa: S102 - our own
    assert shown in capsys.readouterr().out
