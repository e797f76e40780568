"""A user's way of naming a model leads to one file, or to one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tl.checkpoints.errors import CheckpointError
from tl.serving.places import checkpoint_in, located


def repository(cache: Path, name: str, revision: str, *files: str) -> Path:
    """Put files where a download would have put them."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / (revision[0] * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / revision).write_text(snapshot.name)
    for file in files:
        (snapshot / file).write_text("{}")
    return snapshot


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of Hugging Face, without network."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


@pytest.mark.parametrize("written", ["hf-hub:me/net", "hf_hub:me/net", "hf://me/net"])
def test_a_repository_of_the_hub(cache: Path, written: str) -> None:
    snapshot = repository(cache, "me/net", "main", "model.ckpt", "README.md")
    assert located(written) == snapshot
    assert located(Path(written)) == snapshot
    assert checkpoint_in(located(written)) == snapshot / "model.ckpt"


def test_a_revision_of_a_repository(cache: Path) -> None:
    old = repository(cache, "me/net", "v1", "model.ckpt")
    new = repository(cache, "me/net", "main", "model.ckpt")
    assert [located(f"hf-hub:me/net{at}") for at in ("", "@v1")] == [new, old]


def test_what_the_hub_cannot_give_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del cache
    for wrong, said in (
        ("hf-hub:me/net", "me/net is not in the Hugging Face cache and cannot be downloaded"),
        ("hf-hub:me/net@v2", "me/net@v2 is not in the Hugging Face cache"),
        ("hf-hub:net", "does not name a repository of the Hugging Face Hub; expected hf-hub:user"),
    ):
        with pytest.raises(ValueError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
            located(wrong)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="need huggingface_hub; run `pip install"):
        located("hf-hub:me/net")


def test_a_repository_without_its_prefix_is_not_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"me/net: no such file or folder; .* hf-hub:me/net"):
        located("me/net")
    Path("me/net").mkdir(parents=True)
    assert located("me/net") == Path("me/net")


def test_a_folder_with_a_single_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    assert checkpoint_in(tmp_path) == tmp_path / "a.ckpt"
    (tmp_path / "b.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints, a\.ckpt, b\.ckpt; choose one"):
        checkpoint_in(tmp_path)
