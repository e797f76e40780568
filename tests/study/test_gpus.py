from __future__ import annotations

from pathlib import Path

import pytest

from tl.study.gpus import free_gpus, visible_gpus


def test_gpus_are_those_that_the_environment_leaves(tmp_path: Path) -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2,3"}) == ["2", "3"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    (tmp_path / "0000:01").mkdir()
    assert visible_gpus({}, tmp_path) == ["0"]
    assert visible_gpus({}, tmp_path / "none") == []


def test_gpus_that_others_use_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert free_gpus(["0", "1"], {}) == (["0", "1"], [])  # it cannot be known
    tool.write_text("#!/bin/sh\necho '0, 60000, 81920\n1, 10, 81920\n2, [N/A], [N/A]'\n")
    tool.chmod(0o755)
    assert free_gpus(["0", "1", "2"], {}) == (["1", "2"], ["GPU 0 (60000 of 81920 MiB)"])
    assert free_gpus(["0"], {}) == (["0"], [])  # all are in use
    assert free_gpus(["0"], {"CUDA_VISIBLE_DEVICES": "0"}) == (["0"], [])
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert free_gpus(["0", "1"], {}) == (["0", "1"], [])
