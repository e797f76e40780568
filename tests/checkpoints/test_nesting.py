"""Structures nested without end are refused at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import glance_at, read_checkpoint
from tl.checkpoints.nesting import check_nesting
from tl.cli.configuration import check_files


def shared(levels: int) -> list[Any]:
    found: list[Any] = [1]
    for _ in range(levels):
        found = [found, found]
    return found


def test_shared_references_count_as_often_as_they_are_reached() -> None:
    check_nesting(shared(3), most=1 + sum(2**level for level in range(1, 4)) + 8)
    with pytest.raises(ValueError, match="more than 22 values"):
        check_nesting(shared(3), most=22)


@pytest.mark.parametrize("levels", [40, 150])
def test_an_exponential_structure_is_refused(levels: int) -> None:
    with pytest.raises(ValueError, match="through shared references"):
        check_nesting({"a": shared(levels)}, most=1000)


def test_a_structure_that_contains_itself_is_refused() -> None:
    ring: dict[str, Any] = {}
    ring["again"] = ring
    with pytest.raises(ValueError, match="contains itself"):
        check_nesting(ring)


@pytest.mark.parametrize("read", [read_checkpoint, glance_at])
def test_a_checkpoint_of_shared_references_is_refused(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.ones(1)}, "tl": {"configuration": shared(60)}}, path)
    with pytest.raises(CheckpointError, match=r"a\.ckpt: refused, it unfolds to more than"):
        read(path)


def test_yaml_aliases_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    lines = ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"--config .*run\.yaml is refused: it unfolds"):
        check_files(["fit", "--config", str(path)])
