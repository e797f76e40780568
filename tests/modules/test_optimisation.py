from __future__ import annotations

from pathlib import Path

import pytest

from tests.small import module, tiny_data, trainer
from tl.modules import WarmupCosine
from tl.modules.optimisation import check_interval, count_epochs


def test_the_earlier_limit_counts(tmp_path: Path) -> None:
    data = tiny_data()  # 110 images in batches of 20: five steps an epoch
    run = trainer(tmp_path, max_epochs=4, max_steps=6)
    run.fit(module(data), data)
    assert count_epochs(run) == 2
    assert count_epochs(None) is None


def test_an_interval_needs_a_schedule() -> None:
    check_interval("step", WarmupCosine)
    with pytest.raises(ValueError, match="must be step or epoch, got 'batch'"):
        check_interval("batch", WarmupCosine)
    with pytest.raises(ValueError, match="which is not set"):
        check_interval("epoch", None)
