"""What a module takes in from checkpoints, and keeps in its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.small import Tiny, module, tiny_data, trainer
from tl import FolderDataModule, TransferModule


def test_another_number_of_processes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("tl.modules.checkpointed.rank_zero_info", lines.append)
    data, path = tiny_data(), tmp_path / "a.ckpt"
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(data), data)
    run.save_checkpoint(path)
    for there in (1, 2):
        content = torch.load(path, weights_only=True)
        content["tl"]["processes"] = there
        torch.save(content, path)
        trainer(tmp_path).fit(module(data), data, ckpt_path=path, weights_only=True)
        trainer(tmp_path).validate(
            module(data), data, ckpt_path=path, weights_only=True, verbose=False
        )
    [line] = lines
    assert "from 2 processes, this run has 1" in line


def test_what_is_loaded_in_python_is_the_network_that_was_saved(tmp_path: Path) -> None:
    data = tiny_data()
    ours, path = module(data), tmp_path / "a.ckpt"
    run = trainer(tmp_path)
    run.fit(ours, data)
    run.save_checkpoint(path)
    again = type(ours).load_from_checkpoint(path, backbone=Tiny())
    state = ours.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert torch.load(path, weights_only=True)["tl"]["tasks"][0]["num_classes"] == 10


def grouped(folder: Path, groups: str) -> FolderDataModule:
    """Images of three classes in two groups, such as ``a b b``."""
    for name in ("ant", "bee", "cat"):
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            colour = (60 * number, 40, 90)
            Image.new("RGB", (8, 8), colour).save(folder / "photos" / name / f"{number}.png")
    table = folder / f"{groups.replace(' ', '')}.csv"
    rows = zip(("ant", "bee", "cat"), groups.split(), strict=True)
    table.write_text("class,group\n" + "".join(f"{name},{group}\n" for name, group in rows))
    return FolderDataModule(
        root=str(folder / "photos"), size=8, groups=str(table), targets="coarse", batch_size=4
    )


def test_a_source_head_of_other_groups_of_the_same_names_is_refused(tmp_path: Path) -> None:
    data, path = grouped(tmp_path, "a b b"), tmp_path / "a.ckpt"
    run = trainer(tmp_path, max_epochs=1)
    run.fit(TransferModule(Tiny(), data.task), data)
    run.save_checkpoint(path)
    same, other = grouped(tmp_path, "a b b"), grouped(tmp_path, "a a b")
    trainer(tmp_path, max_epochs=1).fit(
        TransferModule(Tiny(), same.task, init_from=str(path), init_heads=True), same
    )
    net = TransferModule(Tiny(), other.task, init_from=str(path), init_heads=True)
    with pytest.raises(ValueError, match=r"groups 1 class differently .*: bee b there, a here\."):
        trainer(tmp_path, max_epochs=1).fit(net, other)
    own = other.task_groups
    with pytest.raises(ValueError, match="groups 1 class differently from the checkpoint's"):
        other.adopt(data.describe())
    assert other.task_groups == own  # what is refused is not kept
