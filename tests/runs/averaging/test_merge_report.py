from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tl.runs.averaging.merge_report import summary
from tl.tasks import Classification, Regression

SCORES = {"fine-tuned alone": {"a": 0.6, "b": 0.5}, "merged": {"a": 0.5, "b": 0.5}}


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (0.1, "0.1 is taken, the least that was tried; try lower ones with --coefficients"),
        (0.2, "0.2 is taken\n"),
        (0.3, "0.3 is taken, the most that was tried; try higher ones with --coefficients"),
    ],
)
def test_a_coefficient_at_the_edge_is_told(taken: float, said: str) -> None:
    tasks = {"a": Classification("a", 3), "b": Regression("b")}
    bench: Any = SimpleNamespace(metric="val/acc", module=SimpleNamespace(tasks=tasks))
    tried = {0.1: 0.5, 0.2: 0.5, 0.3: 0.5}
    counts = {"a": 100, "b": 1}
    lines = summary(Path("x.ckpt"), "TIES", taken, tried, bench, SCORES, counts)
    assert said in lines
    assert "a: 100 samples (standard error up to 0.0500), b: 1 sample\n" in lines
    assert "changes the validation scores by -0.0500 in the mean" in lines
