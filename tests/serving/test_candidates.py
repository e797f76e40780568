from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from torchvision import models

from tests.serving.test_load import saved
from tests.small import Tiny, module, multitask_module, tiny_data, two_sources
from tests.text import build, read
from tl import MultiTaskModule
from tl.questions.features import evaluating
from tl.serving.candidates import _accuracy, _read_as, open_candidate
from tl.tasks import Classification, Prototypes, Segmentation


def test_a_checkpoint_reads_as_it_was_trained(tmp_path: Path) -> None:
    data = tiny_data()
    network = module(data)
    path, _ = saved(tmp_path, network, data)
    found = open_candidate(str(path), backbone=Tiny(), device="cpu")
    assert (found.modality, found.size) == ("images", 32)
    assert found.lineage == f"{data.data_name} from random weights"
    assert found.parameters == sum(p.numel() for p in network.backbone.parameters())
    assert found.accuracy is not None
    assert found.sha256 is not None
    assert found.seen == set(data.class_names[data.task.name])  # type: ignore[union-attr]
    pixels = data.splits["train"][torch.arange(4)]
    inputs = found.network.read([*pixels[0]])
    torch.testing.assert_close(inputs, data.transform(pixels, None)[0])
    assert [*found.network.heads] == [data.task.name]  # type: ignore[union-attr]
    larger = torch.zeros(3, 40, 48, dtype=torch.uint8)
    assert found.network.read([larger]).shape == (1, 3, 32, 32)  # type: ignore[union-attr]


def test_of_several_sources_the_targets_own_is_taken(tmp_path: Path) -> None:
    data = two_sources()
    path, _ = saved(tmp_path, multitask_module(data, batch_norm="per_source"), data)
    both = [open_candidate(str(path), backbone=Tiny(), source=s) for s in ("ten", "hundred")]
    assert both[0].network.read_as != both[1].network.read_as
    other = open_candidate(str(path), backbone=Tiny(), source="neither")
    assert other.network.read_as == both[0].network.read_as
    features = both[0].network.backbone(torch.zeros(2, 3, 32, 32))  # a mixture of statistics
    assert features.shape == (2, 8)
    assert len(both[0].network.heads) == 3


def test_a_text_source_reads_texts(tmp_path: Path) -> None:
    data = read()
    network = build(data)
    path, _ = saved(tmp_path, network, data)
    found = open_candidate(str(path), backbone=network.backbone)
    assert found.modality == "texts"
    inputs = found.network.read(["a b", "c"])
    assert set(inputs) >= {"input_ids", "attention_mask"}


def test_a_network_of_a_library_reads_as_its_weights_were_trained(tmp_path: Path) -> None:
    torch.save(models.resnet18().state_dict(), tmp_path / "r.pth")
    found = open_candidate(f"torchvision:resnet18@{tmp_path / 'r.pth'}", device="cpu")
    assert (found.modality, found.size, found.seen_all) == ("images", 224, False)
    assert found.lineage == "torchvision r.pth"
    grey = torch.full((3, 32, 32), 255, dtype=torch.uint8)
    inputs = found.network.read([grey])
    assert inputs.shape == (1, 3, 224, 224)  # type: ignore[union-attr]
    wanted = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(inputs[0, :, 0, 0], wanted)  # type: ignore[index]
    blank = open_candidate("resnet18@random", device="cpu")
    assert (blank.lineage, blank.seen_all, blank.accuracy) == ("random weights", True, None)
    before = torch.get_rng_state()
    again = open_candidate("resnet18@random", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    both = (each.network.backbone.state_dict() for each in (blank, again))
    assert all(map(torch.equal, *(state.values() for state in both)))


def test_a_network_of_hugging_face_reads_as_its_repository_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformers = pytest.importorskip("transformers")
    little = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(little).save_pretrained(tmp_path / "net")
    given = f"huggingface:{tmp_path / 'net'}"
    white = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    plain = open_candidate(given, device="cpu")
    assert plain.size == 224
    assert "has no preprocessor_config.json here: images are read at 224 pixels" in caplog.text
    content = {"size": {"height": 40}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(content))
    found = open_candidate(given, device="cpu")
    assert found.size == 40
    inputs = found.network.read([white])
    torch.testing.assert_close(inputs, torch.full((1, 3, 40, 40), 2.0))


@pytest.mark.parametrize("library", ["timm", "huggingface"])
def test_a_network_of_its_own_size_is_read_at_that_size_and_with_its_classifier(
    library: str, tmp_path: Path
) -> None:
    """Transformers' positions are of one size of images, which need not be 224 pixels."""
    package = pytest.importorskip("timm" if library == "timm" else "transformers")
    if library == "timm":
        whole, side = package.create_model("vit_tiny_patch16_384"), 384
        torch.save(whole.state_dict(), tmp_path / "net.pth")
        given = f"timm:vit_tiny_patch16_384@{tmp_path / 'net.pth'}"
    else:
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        whole, side = (
            package.ViTForImageClassification(package.ViTConfig(**small, image_size=48)),
            48,
        )
        whole.save_pretrained(tmp_path / "net")
        (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps({"size": side}))
        given = f"huggingface:{tmp_path / 'net'}"
    found = open_candidate(given, device="cpu")
    assert found.size == side
    [head] = found.network.heads.values()
    inputs: Any = found.network.read([torch.zeros(3, 32, 32, dtype=torch.uint8)])
    with torch.no_grad(), evaluating(found.network.backbone, whole):
        logits = whole(inputs) if library == "timm" else whole(inputs).logits
        torch.testing.assert_close(head(found.network.backbone(inputs)), logits)


def test_a_folder_of_timm_says_how_its_network_reads(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    whole, folder = timm.create_model("resnet18", num_classes=5), tmp_path / "net"
    folder.mkdir()
    safetensors.torch.save_file(whole.state_dict(), folder / "model.safetensors")
    read = {"input_size": [3, 40, 40], "mean": [0.5] * 3, "std": [0.5] * 3, "classifier": "fc"}
    content = {"architecture": "resnet18", "num_classes": 5, "pretrained_cfg": read}
    (folder / "config.json").write_text(json.dumps(content))
    found = open_candidate(f"timm:local-dir:{folder}@{folder}", device="cpu")
    assert found.size == 40
    inputs: Any = found.network.read([torch.zeros(3, 40, 40, dtype=torch.uint8)])
    torch.testing.assert_close(inputs, torch.full((1, 3, 40, 40), -1.0))


def test_mistakes_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no network 'resnet19'"):
        open_candidate("torchvision:resnet19")
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"has no network 'resnet18.wrong'"):
        open_candidate("timm:resnet18.wrong")
    with pytest.raises(ValueError, match="no such file"):
        open_candidate(str(tmp_path / "none.ckpt"))
    with pytest.raises(ValueError, match="no such file"):
        open_candidate(str(tmp_path / "photoss"))  # a run's name, misspelt; not asked of the Hub


def test_accuracy_is_the_mean_of_classifications_as_a_number() -> None:
    tasks = {
        "a": Classification("a", 2),
        "b": Classification("b", 2),
        "map": Segmentation("map", 2),
    }
    metrics: Any = {
        f"val/{n}/acc": torch.tensor(v) for n, v in zip(tasks, (0.5, 1, 0), strict=True)
    }
    found = _accuracy(MultiTaskModule(Tiny(), [*tasks.values()][:2]), metrics)
    assert (type(found), found) == (float, 0.75)
    other: Any = SimpleNamespace(tasks={"map": tasks["map"]})
    assert _accuracy(other, metrics) is None
    # of episodes and of pixels are other numbers
    episodes: Any = SimpleNamespace(tasks={"e": Prototypes("e", 5)})
    mixed: Any = SimpleNamespace(tasks={"a": tasks["a"], "map": tasks["map"]})
    assert _accuracy(episodes, {"val/acc": 0.8}) is None
    assert _accuracy(mixed, {"val/acc": 0.8, "val/a/acc": 0.5}) == 0.5


def test_features_of_images_read_with_another_range_are_others() -> None:
    plain: dict[str, Any] = {"image_size": 8, "mean": [0.0] * 3, "std": [1.0] * 3}
    assert _read_as(plain) == _read_as({**plain, "pixel_range": None})
    assert _read_as(plain) != _read_as({**plain, "pixel_range": [0.0, 4095.0]})
