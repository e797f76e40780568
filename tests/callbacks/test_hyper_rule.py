from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from tests.small import Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tl import TransferModule
from tl.callbacks import HyperRuleLength
from tl.callbacks import hyper_rule as place
from tl.data import SyntheticScenesDataModule
from tl.transfer import BiTHyperRule


@pytest.fixture(autouse=True)
def _seven_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "hyper_rule_steps", lambda images: 7 if images < 150 else 9)


def test_the_run_is_as_long_as_the_rule_says_and_the_schedule_too(tmp_path: Path) -> None:
    data = tiny_data()  # 5 steps an epoch
    run = trainer(tmp_path, max_epochs=-1, callbacks=[HyperRuleLength()])
    run.fit(module(data, scheduler=partial(BiTHyperRule)), data)
    assert run.global_step == 7
    # 7 steps: drops at 2.8, 4.2 and 5.6
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 1e-3)


def test_sources_are_added_up(tmp_path: Path) -> None:
    data = two_sources()
    run = trainer(tmp_path, max_epochs=-1, callbacks=[HyperRuleLength()])
    run.fit(multitask_module(data), data)
    assert run.global_step == 9


def test_samples_in_memory_are_counted_too(tmp_path: Path) -> None:
    data = SyntheticScenesDataModule(("objects",), 40, 8, size=8, batch_size=8)
    torch.manual_seed(0)
    ours = TransferModule(Tiny(), data.tasks[0])
    run = trainer(tmp_path, max_epochs=-1, callbacks=[HyperRuleLength()])
    run.fit(ours, data)
    assert run.global_step == 7


@pytest.mark.parametrize("limit", [{"max_epochs": 1}, {"max_epochs": -1, "max_steps": 5}])
def test_a_limit_of_the_run_ends_it_earlier(limit: dict[str, int], tmp_path: Path) -> None:
    data = tiny_data()
    run = trainer(tmp_path, callbacks=[HyperRuleLength()], **limit)
    run.fit(module(data), data)
    assert run.global_step == 5


def test_data_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[HyperRuleLength()])
    loader: DataLoader[torch.Tensor] = DataLoader([torch.zeros(1)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"training images of a data module of tl\.data, got None"):
        run.fit(module(tiny_data()), loader)
