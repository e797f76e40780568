"""What checkpoints hold of a module, and how one is built from them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.small import Tiny, module, tiny_data, trainer
from tl import Classification, TransferModule
from tl.checkpoints.errors import CheckpointError


class Scaled(TransferModule):
    """A subclass with values that no checkpoint can hold as plain types."""

    def __init__(
        self,
        backbone: nn.Module,
        task: Any,
        place: Any,
        made: Any = None,
        gamma: float = 1.0,
        kind: Any = nn.ReLU,
        home: Any = Path("home"),
    ) -> None:
        super().__init__(backbone, task)
        self.save_hyperparameters(ignore=["backbone"])
        self.made = made


def saved(built: TransferModule, folder: Path) -> list[str]:
    """Save a checkpoint; return the warnings that name `load_from_checkpoint`."""
    run = trainer(folder)
    run.strategy.connect(built)
    built.trainer = run
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run.save_checkpoint(folder / "it.ckpt")
    return [str(each.message) for each in said if "load_from_checkpoint" in str(each.message)]


def test_an_argument_that_would_fall_back_to_its_default_is_told(tmp_path: Path) -> None:
    [said] = saved(Scaled(Tiny(), Classification("a", 3), Path(), made=Path()), tmp_path)
    assert said == (
        "Checkpoints leave out `made` of Scaled: without a plain form, such values must be passed "
        "to `load_from_checkpoint` again, which takes the default otherwise."
    )
    with pytest.raises(TypeError, match="place"):  # without a default the constructor asks for it
        Scaled.load_from_checkpoint(tmp_path / "it.ckpt", backbone=Tiny())


def test_values_with_a_plain_form_need_no_word(tmp_path: Path) -> None:
    built = Scaled(Tiny(), Classification("a", 3), place="here", made=[1], gamma=2.0)
    assert saved(built, tmp_path) == []
    found = Scaled.load_from_checkpoint(tmp_path / "it.ckpt", backbone=Tiny())
    assert (found.made, found.hparams["gamma"]) == ([1], 2.0)
    for name, value in built.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name


def test_a_damaged_checkpoint_builds_nothing(tmp_path: Path) -> None:
    data = tiny_data()
    built, run = module(data), trainer(tmp_path, max_epochs=1, limit_train_batches=1)
    run.fit(built, data)
    run.save_checkpoint(tmp_path / "it.ckpt")
    whole = (tmp_path / "it.ckpt").read_bytes()
    (tmp_path / "it.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"it\.ckpt"):
        TransferModule.load_from_checkpoint(tmp_path / "it.ckpt", backbone=Tiny())
