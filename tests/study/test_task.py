from __future__ import annotations

import json
import sys

from tl.study.task import Task


def test_what_a_worker_is_told_is_text() -> None:
    task = Task("a.yaml", ("b=1",), "out")
    assert Task.from_text(task.as_text()) == task
    assert json.loads(task.as_text())["command"] == [sys.executable, "-m", "tl.cli"]
