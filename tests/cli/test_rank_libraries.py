"""``tl rank`` on networks of libraries: random weights stand where downloads would lie."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torchvision import models

from tests.cli.test_rank import generated
from tests.cli.test_verbs import failure
from tl.cli import main

TORCHVISION = "torchvision:shufflenet_v2_x0_5"
TIMM = "timm:test_resnet.r160_in1k"
HUGGING_FACE = "somebody/little-resnet"


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without network, whose caches of the libraries are empty."""
    hub = pytest.importorskip("huggingface_hub")

    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def snapshot(cached: Path, repository: str) -> Path:
    """The folder where a download from the hub would lie."""
    folder = cached / "hf" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    found = folder / "snapshots" / ("0" * 40)
    found.mkdir(parents=True)
    return found


def put_all(cached: Path) -> None:
    """Put weights where the three libraries look for them."""
    timm, transformers = (pytest.importorskip(name) for name in ("timm", "transformers"))
    torch.manual_seed(0)
    file = models.get_model_weights("shufflenet_v2_x0_5")["DEFAULT"].url.rpartition("/")[2]
    (cached / "torch" / "checkpoints").mkdir(parents=True)
    state = models.shufflenet_v2_x0_5().state_dict()
    torch.save(state, cached / "torch" / "checkpoints" / file)
    weights = snapshot(cached, "timm/test_resnet.r160_in1k") / "model.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), weights)
    little = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    folder = snapshot(cached, HUGGING_FACE)
    transformers.ResNetForImageClassification(little).save_pretrained(folder)
    reading = {"size": {"shortest_edge": 48}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(reading))


def test_networks_of_three_libraries_are_ranked(
    cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_all(cached)
    names = [TORCHVISION, TIMM, HUGGING_FACE, f"{TIMM}@random"]
    target = generated(cached, train_size=40)
    options = ["--samples=30", "--resamples=10", f"--out={cached / 'out'}", "--json"]
    assert main(["rank", *names, f"--config={target}", *options]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["sources"]}
    assert found.keys() == set(names)
    assert [found[name]["lineage"] for name in names] == [
        *("torchvision weights", "timm weights", "huggingface weights", "random weights"),
    ]
    for name, row in found.items():
        assert row["scores"]["knn"] is not None
        leep = row["scores"]["leep"]  # by the classifier of the weights
        assert leep is None if name.endswith("@random") else leep <= 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (TORCHVISION, "The weights of torchvision's shufflenet_v2_x0_5 are not on this machine"),
        (TIMM, "timm/test_resnet.r160_in1k is not in the Hugging Face cache"),
        (HUGGING_FACE, f"{HUGGING_FACE} is not in the Hugging Face cache"),
    ],
)
def test_without_network_a_line_says_what_to_put_where(
    name: str, said: str, cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = generated(cached, train_size=40)
    line = failure(capsys, "rank", name, "resnet18@random", f"--config={target}")
    assert said in line
    assert "cannot be downloaded" in line
    assert str(cached) in line  # where to put it
