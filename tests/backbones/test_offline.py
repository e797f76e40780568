"""What is on the machine is found; what is not is said to be put where."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from tl.backbones.offline import hub_file, hub_folder, url_file

URL = "https://download.pytorch.org/models/net-0123abcd.pth"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of Hugging Face, without network."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path / "hf"


def put(cache: Path, repository: str, *files: str) -> Path:
    """Put files where a download would have put them."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    for file in files:
        (snapshot / file).write_text("{}")
    return snapshot


def test_a_file_of_torchs_hub(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be downloaded") as caught:
        url_file(URL, "torchvision's net")
    place = tmp_path / "hub" / "checkpoints" / "net-0123abcd.pth"
    assert f"put it at {place}" in str(caught.value)
    assert "no network" in str(caught.value)
    assert "\n" not in str(caught.value)
    place.touch()
    assert url_file(URL, "torchvision's net") == place


def test_a_file_of_hugging_face(cache: Path) -> None:
    with pytest.raises(ValueError, match="is not in the Hugging Face cache") as caught:
        hub_file("timm/net", "model.safetensors")
    place = cache / "models--timm--net" / "snapshots" / "<revision>" / "model.safetensors"
    assert f"Expected {place}" in str(caught.value)
    assert "\n" not in str(caught.value)
    found = put(cache, "timm/net", "model.safetensors") / "model.safetensors"
    assert hub_file("timm/net", "model.safetensors") == found


def test_a_folder_of_hugging_face(cache: Path) -> None:
    with pytest.raises(ValueError, match=r"with config\.json and model\.safetensors; or copy"):
        hub_folder("microsoft/net", weights=True)
    found = put(cache, "microsoft/net", "config.json", "model.safetensors")
    assert hub_folder("microsoft/net", weights=True) == found


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    with pytest.raises(ValueError, match=r"expected config\.json there, found nothing"):
        hub_folder(str(tmp_path / "net"), weights=False)
    (tmp_path / "net" / "config.json").touch()
    assert hub_folder(str(tmp_path / "net"), weights=False) == tmp_path / "net"
    with pytest.raises(ValueError, match=r"and model\.safetensors there, found config\.json"):
        hub_folder(str(tmp_path / "net"), weights=True)
    (tmp_path / "net" / "pytorch_model.bin").touch()
    assert hub_folder(str(tmp_path / "net"), weights=True) == tmp_path / "net"
    with pytest.raises(ValueError, match="is neither a folder nor the name of a repository"):
        hub_folder(str(tmp_path / "none"), weights=True)
