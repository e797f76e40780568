"""Paths, addresses and folders of checkpoints, and what is there instead of one."""

from pathlib import Path

import pytest
import torch

from tests.checkpoints.test_files import STATE
from tests.checkpoints.test_files import _message as message
from tests.checkpoints.test_files import _same as same
from tests.server import serving
from tl.checkpoints.files import read_checkpoint
from tl.checkpoints.paths import check_file, local_file, weights_file


def test_missing_files_suggest_what_is_there(tmp_path: Path) -> None:
    assert "that folder has no checkpoint" in message(tmp_path / "last.ckpt")
    torch.save(STATE, tmp_path / "last.ckpt")
    assert "did you mean last.ckpt?" in message(tmp_path / "lst.ckpt")
    assert "that folder has last.ckpt" in message(tmp_path / "resnet18.pth")
    assert f"the folder {tmp_path / 'runs'}" in message(tmp_path / "runs" / "a.ckpt")
    assert "download the file first" in message(Path("s3://bucket/a.pt"))


def test_a_missing_run_suggests_the_one_of_a_close_name(tmp_path: Path) -> None:
    (tmp_path / "version_0").mkdir()
    (tmp_path / "baseline").mkdir()
    assert message(tmp_path / "basline").endswith(f"did you mean {tmp_path / 'baseline'}?")
    assert "that folder has no checkpoint" in message(tmp_path / "other")


def test_folders_suggest_their_checkpoints(tmp_path: Path) -> None:
    assert message(tmp_path).endswith("is a folder; name a checkpoint in it.")
    (tmp_path / "checkpoints").mkdir()
    torch.save(STATE, tmp_path / "checkpoints" / "last.ckpt")
    assert "checkpoints/last.ckpt" in message(tmp_path)


def test_an_address_is_read_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    torch.save(STATE, tmp_path / "a.pt")
    with serving() as answers:
        answers.bodies["/a.pt"] = (tmp_path / "a.pt").read_bytes()
        assert same(read_checkpoint(f"{answers.address}/a.pt"))
        # what a Path has made of it
        assert same(read_checkpoint(Path(f"{answers.address}/a.pt")))
    assert answers.asked == ["/a.pt"]
    assert local_file(f"{answers.address}/a.pt").name.startswith("a-")


def test_a_folder_of_hugging_face_is_its_weights(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    assert weights_file(tmp_path) == tmp_path
    (tmp_path / "config.json").write_text("{}")
    assert weights_file(tmp_path) == tmp_path / "pytorch_model.bin"
    (tmp_path / "model.safetensors").write_bytes(b"any")
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"
    check_file(weights_file(tmp_path))
