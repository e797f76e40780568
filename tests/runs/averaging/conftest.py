from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.averaging.dense import Rooms
from tests.runs.averaging.runs import make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / str(seed), seed) for seed in range(3)]


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    return Rooms(tmp_path_factory.mktemp("rooms"))
