from __future__ import annotations

import json
from pathlib import Path

import pytest

from tl.report import find_tested, read_tested


def leave(folder: Path, metrics: dict[str, float], seed: int | None = 0, mark: str = "x") -> Path:
    """Write the files of a run."""
    folder.mkdir(parents=True)
    content = {"metrics": metrics, "data": {"cifar10": {"fingerprint": mark}}}
    (folder / "results.json").write_text(json.dumps(content))
    if seed is not None:
        (folder / "config.yaml").write_text(f"seed_everything: {seed}\n")
    return folder


def test_the_tested_version_is_found(tmp_path: Path) -> None:
    leave(tmp_path / "run" / "version_0", {"val/acc": 0.5})
    tested = leave(tmp_path / "run" / "version_1", {"test/acc": 0.25}, seed=7)
    for folder in (tmp_path / "run", tested):
        found = read_tested(folder)
        assert (found.folder, found.seed) == (tested, 7)
        assert found.metrics == {"test/acc": 0.25}
        assert found.fingerprints == {"cifar10": "x"}


def test_versions_are_counted_not_spelled(tmp_path: Path) -> None:
    leave(tmp_path / "run" / "version_10", {"test/acc": 0.5})
    second = leave(tmp_path / "run" / "version_2", {"test/acc": 0.25})
    assert read_tested(tmp_path / "run").folder == second


def test_without_a_configuration_the_seed_is_unknown(tmp_path: Path) -> None:
    leave(tmp_path / "run", {"test/acc": 0.25}, seed=None)
    assert read_tested(tmp_path / "run").seed is None


def test_what_was_not_tested_is_said(tmp_path: Path) -> None:
    leave(tmp_path / "run", {"val/acc": 0.5})
    assert find_tested(tmp_path / "run") is None
    with pytest.raises(ValueError, match="holds no results on test images"):
        read_tested(tmp_path / "run")
    with pytest.raises(ValueError, match="There is no run folder"):
        read_tested(tmp_path / "elsewhere")


def test_data_without_a_fingerprint_are_no_obstacle(tmp_path: Path) -> None:
    folder = leave(tmp_path / "run", {"test/acc": 0.25})
    content = {"metrics": {"test/acc": 0.25}, "data": {"mine": {"name": "mine"}}}
    (folder / "results.json").write_text(json.dumps(content))
    assert read_tested(folder).fingerprints == {}


@pytest.mark.parametrize(
    ("limits", "length"),
    [
        ("max_epochs: 1", "up to 1 epoch"),
        ("max_epochs: -1, max_steps: 500", "up to 500 steps"),
        ("max_epochs: 9, max_steps: 500", "up to 9 epochs or 500 steps"),
        ("max_epochs: null", "up to any length"),
    ],
)
def test_the_length_with_early_stopping_is_its_limits(
    tmp_path: Path, limits: str, length: str
) -> None:
    folder = leave(tmp_path / "run", {"test/acc": 0.25})
    (folder / "config.yaml").write_text(
        f"trainer: {{{limits}, callbacks: [{{class_path: EarlyStopping}}]}}"
    )
    assert read_tested(folder).length == length
