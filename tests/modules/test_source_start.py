"""When a source's weights come in, and what takes their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from torch import Tensor

from tests.small import Tiny, module, tiny_data, trainer
from tl import TransferModule
from tl.checkpoints.files import CheckpointError
from tl.transfer.penalties import L2SP

CONV = "backbone.conv.weight"


class First(Callback):
    """Keeps the weights before the first step."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.state = self.state or weights(pl_module)


def weights(of: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in of.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor], part: str) -> bool:
    names = [name for name in one if name.startswith(part)]
    return bool(names) and all(torch.equal(one[name], other[name]) for name in names)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A run of one epoch, and `other.ckpt`, which trained longer."""
    data = tiny_data()
    for name, epochs in (("source", 1), ("other", 2)):
        run = trainer(tmp_path, max_epochs=epochs)
        run.fit(module(data), data)
        run.save_checkpoint(tmp_path / f"{name}.ckpt")
    return tmp_path / "source.ckpt"


def state_of(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_a_module_is_built_with_the_source_in_it(source: Path, tmp_path: Path) -> None:
    data, there = tiny_data(), state_of(source)
    built = module(data, init_from=str(source), init_heads=True)
    assert same(there, weights(built), "")
    assert built.provenance is not None
    assert built.transfer_report is not None
    trainer(tmp_path).validate(built, data, verbose=False)
    assert same(there, weights(built), "")


def test_a_source_that_is_missing_is_missed_by_all_but_a_resume(
    source: Path, tmp_path: Path
) -> None:
    data = tiny_data()
    with pytest.warns(UserWarning, match=r"no\.ckpt: no such file.* only resume"):
        built = module(data, init_from=str(tmp_path / "no.ckpt"))
    for use in (
        lambda: trainer(tmp_path).validate(built, data, verbose=False),
        lambda: trainer(tmp_path).test(built, data, verbose=False),
        lambda: trainer(tmp_path).predict(built, data),
        lambda: trainer(tmp_path).fit(built, data),
        lambda: built(torch.zeros(1, 3, 32, 32)),
    ):
        with pytest.raises(CheckpointError, match="no such file"):
            use()
    trainer(tmp_path).test(built, data, ckpt_path=source, weights_only=True, verbose=False)
    with pytest.raises(CheckpointError, match="no such file"):  # not from what was tested
        trainer(tmp_path).fit(built, data)
    trainer(tmp_path).fit(built, data, ckpt_path=source, weights_only=True)


def test_a_second_fit_continues_with_the_penalties_of_the_first(
    source: Path, tmp_path: Path
) -> None:
    data, first = tiny_data(), First()
    built = module(data, init_from=str(source), penalties=L2SP())
    trainer(tmp_path).fit(built, data)
    ended = weights(built)
    trainer(tmp_path, callbacks=[first]).fit(built, data)
    assert same(ended, first.state, "")
    assert not torch.equal(ended[CONV], state_of(source)[CONV])


def test_what_was_tested_before_training_is_not_the_start(source: Path, tmp_path: Path) -> None:
    data, first, other = tiny_data(), First(), tmp_path / "other.ckpt"
    built = module(data, init_from=str(source), penalties=L2SP())
    fresh = weights(built)
    saved = module(data, penalties=L2SP(), init_from=str(other))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(saved, data)
    run.save_checkpoint(other)
    trainer(tmp_path).test(built, data, ckpt_path=other, weights_only=True, verbose=False)
    trainer(tmp_path, callbacks=[first]).fit(built, data)
    assert same(fresh, first.state, "backbone.")
    assert same(fresh, first.state, "heads.")
    kept = [value for name, value in first.state.items() if name.endswith("conv/weight")]
    assert [torch.equal(value, fresh[CONV]) for value in kept] == [True]


def test_what_was_tested_after_training_is_the_start(source: Path, tmp_path: Path) -> None:
    data, first, other = tiny_data(), First(), tmp_path / "other.ckpt"
    built = module(data, init_from=str(source))
    trainer(tmp_path).fit(built, data)
    trainer(tmp_path).test(built, data, ckpt_path=other, weights_only=True, verbose=False)
    trainer(tmp_path, callbacks=[first]).fit(built, data)
    assert same(state_of(other), first.state, "")


def test_a_loaded_module_needs_no_source(source: Path, tmp_path: Path) -> None:
    data, path = tiny_data(), tmp_path / "mine.ckpt"
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(data, init_from=str(source)), data)
    run.save_checkpoint(path)
    source.unlink()
    first = First()
    again = TransferModule.load_from_checkpoint(path, backbone=Tiny())
    trainer(tmp_path, callbacks=[first]).fit(again, data)
    assert same(state_of(path), first.state, "")


def test_a_search_for_a_learning_rate_leaves_the_start(source: Path, tmp_path: Path) -> None:
    data = tiny_data()
    built = module(data, init_from=str(source), penalties=L2SP())
    finder = LearningRateFinder(min_lr=1e-3, num_training_steps=20)
    start = weights(built)
    trainer(tmp_path, max_epochs=4, callbacks=[finder]).fit(built, data)
    kept = [v for name, v in built.state_dict().items() if name.endswith("conv/weight")]
    assert [torch.equal(value, start[CONV]) for value in kept] == [True]
