from __future__ import annotations

from tl import Classification, Regression
from tl.modules.score_log import bar_names, shared_scores

CLASSES, NUMBER = Classification("a", 3), Regression("b")


def test_scores_that_all_tasks_have() -> None:
    assert "acc" in shared_scores([CLASSES, CLASSES])
    assert "acc" not in shared_scores([CLASSES, NUMBER])


def test_the_bar_shows_loss_and_what_decides() -> None:
    assert bar_names("val", [CLASSES], ["acc", "top5"]) == {"val/loss", "val/acc"}
    assert bar_names("train", [CLASSES, NUMBER], []) == {"train/loss"}
