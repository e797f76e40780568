"""Checkpoint files are read without running code, or refused in one line."""

import json
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tl.callbacks import AtomicCheckpointIO
from tl.checkpoints.files import (
    CheckpointError,
    file_sha256,
    glance_at,
    listed,
    read_checkpoint,
    read_hashed,
)

STATE = {"conv1.weight": torch.arange(300.0).reshape(3, 100), "conv1.bias": torch.ones(3)}


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.marker,))


def _message(path: Path) -> str:
    """Return the error of reading a file, which must be one line that names its path."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message


def _same(content: dict[str, Any]) -> bool:
    return list(content) == list(STATE) and all(torch.equal(content[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_comes_back_bit_for_bit(tmp_path: Path, *, zipped: bool) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert _same(read_checkpoint(tmp_path / "a.pt"))
    assert _same(read_checkpoint(str(tmp_path / "a.pt")))


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin"])
def test_safetensors_are_told_by_content(tmp_path: Path, name: str) -> None:
    safetensors.torch.save_file(STATE, tmp_path / name)
    content = read_checkpoint(tmp_path / name)
    assert all(torch.equal(content[key], STATE[key]) for key in STATE)


def test_a_torch_file_may_be_called_safetensors(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.safetensors")
    assert _same(read_checkpoint(tmp_path / "a.safetensors"))


def test_safetensors_with_a_header_that_looks_like_a_pickle(tmp_path: Path) -> None:
    # 128 bytes of header make the file start with 0x80, as pickles do.
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(128)
    data = (128).to_bytes(8, "little") + header.encode() + np.float32(7).tobytes()
    (tmp_path / "a.bin").write_bytes(data)
    assert read_checkpoint(tmp_path / "a.bin")["a"].item() == 7


def test_a_checkpoint_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert _same(read_checkpoint(tmp_path / "a.pt"))


@pytest.mark.parametrize("forced", [True, False], ids=["unsafe-by-environment", "plain"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "pickle-2", "zip-protocol-4"])
def test_no_code_runs_and_what_the_pickle_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, *, forced: bool
) -> None:
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker, path = tmp_path / "marker", tmp_path / "a.pt"
    content = {"state_dict": STATE, "hparams": Payload(marker)}
    if form.startswith("pickle"):
        plain = {"hparams": Payload(marker)}
        path.write_bytes(pickle.dumps(plain, protocol=2 if form == "pickle-2" else None))
    else:
        torch.save(
            content,
            path,
            _use_new_zipfile_serialization=form != "legacy",
            pickle_protocol=4 if form == "zip-protocol-4" else 2,
        )
    message = _message(path)
    assert not marker.exists()
    assert "refused" in message
    assert "pathlib.Path" in message or "getattr" in message
    # The same file does run code where it may: the marker is a fair witness.
    if form == "pickle":
        pickle.loads(path.read_bytes())  # noqa: S301  # the payload is ours
        assert marker.exists()


def test_hyper_parameters_that_are_objects_are_named(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "lr": np.float64(0.1)}, tmp_path / "a.ckpt")
    message = _message(tmp_path / "a.ckpt")
    assert "multiarray.scalar" in message  # numpy.core, or numpy._core from numpy 2 on
    assert "save only the `state_dict()`" in message


def test_a_whole_pickled_module_is_refused_in_both_formats(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(nn.Linear(2, 2), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        assert "torch.nn.modules.linear.Linear" in _message(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore:.*`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*`torch.jit:DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "a.pt")  # type: ignore[no-untyped-call]  # torch's

    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch.jit, "load", never)
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert "TorchScript archive, which contains code" in _message(tmp_path / "a.pt")


def test_terminal_codes_in_a_file_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"\x80\x02cos\x1b[2J\nsystem\nq\x01.")
    assert "os\\x1b[2J.system" in _message(tmp_path / "a.pt")
    assert listed(["a", "b\x1b", "c"], limit=2) == "a, 'b\\x1b', ..."


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "zip.pt")
    torch.save(STATE, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    for whole in list(tmp_path.iterdir()):
        data = whole.read_bytes()
        for length in (1, 10, len(data) // 4, len(data) // 2, len(data) - 1):
            whole.write_bytes(data[:length])
            message = _message(whole)
            assert "truncated" in message or "not a checkpoint" in message


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(STATE, path)
    data = bytearray(path.read_bytes())
    data[data.index(STATE["conv1.weight"].numpy().tobytes()) + 7] ^= 64
    path.write_bytes(data)
    # torch itself loads it, with a value that is wrong
    assert not torch.equal(
        torch.load(path, weights_only=True)["conv1.weight"], STATE["conv1.weight"]
    )
    assert re.search(r"is damaged: its part a/data/\d does not match the checksum", _message(path))


def test_random_damage_gives_no_other_exception(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "a.pt"
    for zipped in (True, False):
        torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(60):
            damaged = data.copy()
            damaged[rng.integers(len(data), size=5)] = rng.integers(256, size=5)
            path.write_bytes(damaged.tobytes())
            try:
                read_checkpoint(path)
            except CheckpointError as error:
                assert "\n" not in str(error)  # noqa: PT017  # damage in legacy data is no error


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "is empty"),
        (b"hello world", "not a checkpoint: it starts with b'hello world'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (b"\x1f\x8b\x08" + bytes(40), "gzip archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x80\x02}q\x00.", "truncated, damaged or not written by torch.save"),
        (b"\x80\x04\x95" + bytes(40), "truncated, damaged or not written by torch.save"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(data)
    assert found in _message(tmp_path / "a.ckpt")


def test_other_archives_are_told_apart(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.pt", "a.pt")
    assert "a tar archive; unpack it" in _message(tmp_path / "a.tar")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.write(tmp_path / "a.pt", "weights/a.pt")
    assert "a zip archive of weights/a.pt, not a checkpoint" in _message(tmp_path / "b.zip")


@pytest.mark.parametrize("content", [[1, 2], torch.ones(2), {0: torch.ones(2)}])
def test_content_without_names_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert "expected a dict with string keys" in _message(tmp_path / "a.pt")


def test_missing_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, tmp_path / "a.pt")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError

    # not by chmod: a superuser may read everything
    monkeypatch.setattr(Path, "open", denied)
    assert "no permission to read it" in _message(tmp_path / "a.pt")


def test_content_and_hash_are_of_the_same_bytes(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(STATE, tmp_path / "sealed.ckpt")
    torch.save(STATE, tmp_path / "plain.pt")
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    for path in list(tmp_path.iterdir()):
        content, sha256 = read_hashed(path)
        assert sha256 == file_sha256(path)
        assert all(torch.equal(content[key], STATE[key]) for key in STATE)


def test_an_archive_that_unpacks_to_much_more_than_it_is_long_is_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in whole.namelist():
            bomb.writestr(name, whole.read(name))
        bomb.writestr("archive/data/9", bytes(2**20))
    assert "unpack to 1,0" in _message(tmp_path / "bomb.pt")


def test_a_glance_reads_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 3, "state_dict": STATE}, path)
    data = bytearray(path.read_bytes())
    data[data.index(STATE["conv1.weight"].numpy().tobytes()) + 7] ^= 64
    path.write_bytes(data)
    assert glance_at(path)["epoch"] == 3
    with pytest.raises(CheckpointError, match="checksum"):
        read_checkpoint(path)
    path.write_bytes(data[:-200])
    with pytest.raises(CheckpointError, match="truncated"):
        glance_at(path)
    torch.save({"epoch": 3}, path, _use_new_zipfile_serialization=False)
    assert glance_at(path) == {"epoch": 3}
    torch.save([1], path)
    assert glance_at(path) == {}


@pytest.mark.parametrize("sealed", [True, False], ids=["ours", "plain"])
def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path, *, sealed: bool) -> None:
    """Anywhere in the file: in a part, a name, an offset, a checksum, or padding."""
    path = tmp_path / "a.ckpt"
    content = {"state_dict": STATE, "epoch": 3, "tl": {"tasks": [{"name": "ten"}]}}
    if sealed:
        AtomicCheckpointIO().save_checkpoint(content, path)
    else:
        torch.save(content, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for bit in rng.choice(len(whole) * 8, size=400, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except CheckpointError as error:
            refused += 1
            assert str(error).isprintable()  # noqa: PT017 - most are refused, a few are harmless
            continue
        assert _same(read["state_dict"]), bit
        assert (read["epoch"], read["tl"]) == (3, content["tl"]), bit
    # of ours only the mark of the checksum itself may be damaged unnoticed: 80 of 40,000 bits
    assert refused > (395 if sealed else 100)
