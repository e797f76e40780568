"""Adapters begin as nothing, are all that changes, and can be taken in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.small import tiny_data, trainer
from tl import GeneratedDataModule, TransferModule
from tl.backbones import LoraBackbone
from tl.backbones.resnet_cifar import ResNetCifar
from tl.optim.param_groups import named_groups
from tl.runs.folders import build
from tl.transfer import FullFineTuning, GradualUnfreezing, LinearProbe, load_weights
from tl.transfer.freezing import Strategy
from tl.transfer.weights import WeightsMismatchError

pytest.importorskip("peft")
ROOT = Path(__file__).resolve().parents[2]


def network(seed: int = 0) -> ResNetCifar:
    torch.manual_seed(seed)
    return ResNetCifar(depth=8)


def adapted(seed: int = 0, **options: bool | float) -> LoraBackbone:
    return LoraBackbone(network(seed), **{"rank": 4, **options})  # type: ignore[arg-type]


def moved(backbone: LoraBackbone) -> LoraBackbone:
    """As after some training."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if ".lora_B." in name:
                nn.init.normal_(parameter, std=0.1)
    return backbone


def module(data: GeneratedDataModule, strategy: Strategy | None = None) -> TransferModule:
    return TransferModule(
        adapted(),
        data.tasks[0],
        strategy=strategy,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4),
    )


IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_start_is_the_backbone_itself() -> None:
    plain, wrapped = network().eval(), adapted().eval()
    assert torch.equal(wrapped(IMAGES), plain(IMAGES))
    assert wrapped.num_features == 64
    assert list(wrapped.stages()) == list(plain.stages())
    groups = named_groups(wrapped, nn.Linear(2, 2))
    assert sum(len(group["params"]) for group in groups) == len(list(wrapped.parameters())) + 2


def test_a_layer_by_hand() -> None:
    wrapped = moved(adapted(alpha=2.0))
    layer = wrapped.get_submodule("backbone.layer1.0.conv1")
    images = torch.randn(2, 16, 8, 8)
    state = layer.state_dict()
    a, b = state["lora_A.default.weight"], state["lora_B.default.weight"]
    assert a.shape == (4, 16, 3, 3)
    assert b.shape == (16, 4, 1, 1)
    change = torch.einsum("or,rikl->oikl", b[:, :, 0, 0], a) * 2.0 / 4
    whole = state["base_layer.weight"] + change
    expected = nn.functional.conv2d(images, whole, padding=1)
    torch.testing.assert_close(layer(images), expected, rtol=1e-4, atol=1e-5)


def test_the_merged_network_equals_the_unmerged() -> None:
    wrapped = moved(adapted()).eval()
    before = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    merged = wrapped.merged().eval()
    torch.testing.assert_close(merged(IMAGES), wrapped(IMAGES), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged(IMAGES), network().eval()(IMAGES), atol=1e-3)
    assert set(merged.state_dict()) == set(network().state_dict())
    assert all(parameter.requires_grad for parameter in merged.parameters())
    assert all(torch.equal(before[name], t) for name, t in wrapped.state_dict().items())


@pytest.mark.parametrize("norms", [True, False])
def test_adapters_train_and_norms_by_choice(norms: bool) -> None:
    wrapped = adapted(norms=norms)
    for name, parameter in wrapped.named_parameters():
        is_norm = ".bn" in name
        assert parameter.requires_grad == (".lora_" in name or (norms and is_norm)), name


@pytest.mark.filterwarnings("ignore:.*they never train")
@pytest.mark.parametrize(
    "strategy",
    [None, FullFineTuning(), GradualUnfreezing(), LinearProbe()],
    ids=["none", "full", "gradual", "probe"],
)
def test_base_weights_never_change(strategy: Strategy | None, tmp_path: Path) -> None:
    data = tiny_data()
    net = module(data, strategy)
    before = {name: tensor.clone() for name, tensor in net.backbone.state_dict().items()}
    run = trainer(tmp_path, max_epochs=2, limit_val_batches=1)
    run.fit(net, data)
    changed = {
        name
        for name, tensor in net.backbone.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert not [name for name in changed if "base_layer" in name]
    for name, parameter in net.backbone.named_parameters():
        assert not (".base_layer." in name and parameter.requires_grad), name
    lora = [name for name in changed if "lora_" in name]
    if isinstance(strategy, LinearProbe):
        assert not changed
    else:
        assert lora
    if strategy is not None:
        base = sum(t.numel() for name, t in before.items() if "base_layer" in name)
        assert run.logged_metrics["transfer/trainable_parameters"] <= (
            sum(p.numel() for p in net.parameters()) - base
        )


@pytest.mark.filterwarnings("ignore:.*they never train")
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    def fit(epochs: int, checkpoint: str | None) -> tuple[TransferModule, str]:
        data = tiny_data()
        net = module(data, GradualUnfreezing())
        run = trainer(tmp_path, max_epochs=epochs, limit_val_batches=0)
        run.fit(net, data, ckpt_path=checkpoint)
        path = str(tmp_path / f"{epochs}-{checkpoint is None}.ckpt")
        run.save_checkpoint(path)
        return net, path

    whole, _ = fit(3, None)
    _, part = fit(2, None)
    resumed, _ = fit(3, part)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_plain_weights_come_into_the_layers_by_their_names(tmp_path: Path) -> None:
    source = network(1)
    torch.save(source.state_dict(), tmp_path / "plain.pt")
    ours = {f"backbone.{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"state_dict": ours}, tmp_path / "ours.ckpt")
    for path in (tmp_path / "plain.pt", tmp_path / "ours.ckpt"):
        wrapped = moved(adapted())
        kept = wrapped.state_dict()["backbone.conv1.lora_B.default.weight"].clone()
        report = load_weights(wrapped, path)
        assert report.fraction == 1
        assert all(".lora_" in name for name in report.reinitialised)
        for name, tensor in source.state_dict().items():
            inner = [n for n in wrapped.state_dict() if n.replace(".base_layer", "") == _in(name)]
            assert torch.equal(wrapped.state_dict()[inner[0]], tensor), name
        assert torch.equal(wrapped.state_dict()["backbone.conv1.lora_B.default.weight"], kept)
    assert load_weights(adapted(), tmp_path / "plain.pt", reinit=["conv1"]).fraction == 1


def _in(name: str) -> str:
    return f"backbone.{name}"


def test_adapters_come_back_and_are_not_dropped(tmp_path: Path) -> None:
    source = moved(adapted(1))
    state: dict[str, Tensor] = {f"backbone.{n}": t for n, t in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    target = adapted(0)
    report = load_weights(target, tmp_path / "a.ckpt")
    assert report.reinitialised == ()
    assert all(torch.equal(t, source.state_dict()[n]) for n, t in target.state_dict().items())
    with pytest.raises(WeightsMismatchError, match=r"has LoRA adapters.*`merged\(\)`"):
        load_weights(network(), tmp_path / "a.ckpt")
    with pytest.raises(WeightsMismatchError, match="shapes differ"):
        load_weights(adapted(0, rank=2), tmp_path / "a.ckpt")
    torch.save(source.merged().state_dict(), tmp_path / "merged.pt")
    plain = network()
    load_weights(plain, tmp_path / "merged.pt")
    torch.testing.assert_close(plain.eval()(IMAGES), source.eval()(IMAGES), rtol=1e-4, atol=1e-5)


def test_the_overlay_wraps_the_backbone() -> None:
    module, _ = build(
        [ROOT / "configs/transfer_cifar100.yaml", ROOT / "configs/transfer/lora.yaml"]
    )
    assert isinstance(module, TransferModule)
    assert isinstance(module.backbone, LoraBackbone)
    assert module.backbone.num_features == 512


def test_grouped_and_dilated_convolutions_stay_as_they_are() -> None:
    class Odd(nn.Module):
        num_features = 4

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)
            self.depthwise = nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 3, groups=4)})
            self.dilated = nn.Conv2d(4, 4, 3, dilation=2)

    wrapped = LoraBackbone(Odd())
    names = {name.split(".lora_")[0] for name in wrapped.state_dict() if ".lora_" in name}
    assert names == {"backbone.conv1"}


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="`rank` must be 1 or more, got 0"):
        LoraBackbone(network(), rank=0)
    with pytest.raises(ValueError, match="`alpha` must be above 0"):
        LoraBackbone(network(), alpha=0)
    with pytest.raises(ValueError, match="no linear layer or convolution"):
        LoraBackbone(nn.Sequential(nn.BatchNorm2d(3)))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tl\[lora\]'"):
        LoraBackbone(network())
