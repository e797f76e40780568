from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    """Write something with ``torch.save`` and return where."""

    def write(content: object) -> Path:
        torch.save(content, tmp_path / "source.ckpt")
        return tmp_path / "source.ckpt"

    return write
