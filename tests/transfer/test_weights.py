"""Weights come into a backbone whole, or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from tests.transfer.loading import copied, equal, refused, small_backbone
from tl.backbones import ResNet18
from tl.backbones.resnet_cifar import ResNetCifar
from tl.tasks.heads import linear_head
from tl.transfer.weights import TransferReport, load_weights


class Net(nn.Module):
    """Named like the LightningModules: a backbone and heads by task."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict({"cifar10": linear_head(64, 10)})


class Shared(nn.Module):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.num_features = 4


def _values(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())


def _compiled(module: nn.Module) -> nn.Module:
    compiled = torch.compile(module, backend="eager")
    assert isinstance(compiled, nn.Module)
    return compiled


def test_own_checkpoint_comes_back_bit_for_bit(save: Callable[[object], Path]) -> None:
    source, target = small_backbone(0), small_backbone(1)
    path = save({"state_dict": Net(source).state_dict(), "epoch": 3, "global_step": 70})
    report = load_weights(target, path)
    assert equal(source.state_dict(), target.state_dict())
    assert report.fraction == 1
    assert report.loaded == tuple(target.state_dict())
    assert report.reinitialised == ()
    assert report.unused == ("heads.cifar10.weight", "heads.cifar10.bias")
    assert report.source == {"epoch": 3, "global_step": 70}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net.state_dict(),
        lambda net: {"model": net.state_dict(), "optimizer": {"lr": 0.1}},
        lambda net: {"ema": net.state_dict()},
        lambda net: {"model_state_dict": nn.DataParallel(net).state_dict()},
        lambda net: _compiled(nn.DataParallel(Net(net))).state_dict(),
        lambda net: Net(_compiled(net)).state_dict(),
    ],
    ids=["plain", "model", "ema", "data-parallel", "compiled", "compiled-inside"],
)
def test_other_forms_of_state_dicts_fit(
    save: Callable[[object], Path], wrap: Callable[[nn.Module], object]
) -> None:
    source, target = small_backbone(0), small_backbone(1)
    assert load_weights(target, save(wrap(source))).fraction == 1
    assert equal(source.state_dict(), target.state_dict())


def test_safetensors_fit(tmp_path: Path) -> None:
    source, target = small_backbone(0), small_backbone(1)
    safetensors.torch.save_file(Net(source).state_dict(), tmp_path / "a.safetensors")
    assert load_weights(target, tmp_path / "a.safetensors").fraction == 1
    assert equal(source.state_dict(), target.state_dict())


def test_a_compiled_backbone_is_filled(save: Callable[[object], Path]) -> None:
    source, target = small_backbone(0), small_backbone(1)
    names = tuple(target.state_dict())
    target.add_module("layer1", _compiled(target.layer1))
    report = load_weights(_compiled(target), save(source.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(*map(_values, (source, target)), strict=True))
    assert report.loaded == names


def test_torchvision_resnet18_fits_but_for_the_stem(save: Callable[[object], Path]) -> None:
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    path, target = save(state), ResNet18()
    message = refused(target, path)
    assert "conv1.weight (64, 3, 7, 7) against conv1.weight (64, 3, 3, 3)" in message
    assert "another architecture" in message
    assert "with `reinit`, here conv1" in message
    stem = target.conv1.weight.clone()
    report = load_weights(target, path, reinit=["conv1"])
    assert report.reinitialised == ("conv1.weight",)
    assert report.unused == ("conv1.weight", "fc.weight", "fc.bias")
    assert report.fraction == 1
    assert torch.equal(target.conv1.weight, stem)
    assert torch.equal(target.state_dict()["layer4.1.bn2.weight"], state["layer4.1.bn2.weight"])


def test_torchvision_resnet18_fits_whole_with_its_own_stem(
    save: Callable[[object], Path],
) -> None:
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    target = ResNet18(stem="imagenet")
    report = load_weights(target, save(state))
    assert report.unused == ("fc.weight", "fc.bias")
    assert equal(target.state_dict(), {k: v for k, v in state.items() if not k.startswith("fc.")})


def test_two_names_for_one_target_are_refused(save: Callable[[object], Path]) -> None:
    source, other, target = small_backbone(0), small_backbone(2), small_backbone(1)
    both = {
        f"{p}.{k}": v
        for p, n in (("encoder", source), ("backbone", other))
        for k, v in n.state_dict().items()
    }
    path = save(both)
    message = refused(target, path)
    assert "encoder.conv1.weight and backbone.conv1.weight both match conv1.weight" in message
    report = load_weights(target, path, rename={"encoder": ""})
    assert equal(source.state_dict(), target.state_dict())
    assert report.unused == tuple(f"backbone.{name}" for name in other.state_dict())


def test_rename_maps_names(save: Callable[[object], Path]) -> None:
    source, target = small_backbone(0), small_backbone(1)
    state = {f"module.encoder_q.{k}": v for k, v in source.state_dict().items()}
    state |= {f"module.encoder_k.{k}": v for k, v in small_backbone(2).state_dict().items()}
    path = save({"state_dict": state})
    assert "fills 0 of" in refused(target, path)
    assert load_weights(target, path, rename={"encoder_q": ""}).fraction == 1
    assert equal(source.state_dict(), target.state_dict())


def test_entries_without_effect_are_refused(save: Callable[[object], Path]) -> None:
    path, target = save(small_backbone(0).state_dict()), small_backbone(1)
    assert "'layr1' of `rename` matches no name" in refused(target, path, rename={"layr1": "x"})
    assert "maps to names under 'x' that" in refused(target, path, rename={"layer1": "x"})
    assert "'con1', which the backbone does not have; did you mean conv1" in refused(
        target, path, reinit=["con1"]
    )
    assert "'layer'" in refused(target, path, reinit=["layer"])
    assert "`min_fraction`" in refused(target, path, min_fraction=0.0)
    with pytest.raises(TypeError, match="`reinit` must be a list"):
        load_weights(target, path, reinit="conv1")


def test_a_file_without_weights_is_refused(save: Callable[[object], Path]) -> None:
    message = refused(small_backbone(1), save({"epoch": 3, "optimizer": {"lr": 0.1}}))
    assert "has no weights, only epoch, optimizer" in message


def test_tied_weights_fit_and_stay_tied(save: Callable[[object], Path]) -> None:
    source, target = Shared(), Shared()
    report = load_weights(target, save(source.state_dict()))
    assert equal(source.state_dict(), target.state_dict())
    assert target.first.weight is target.second.weight
    assert report.unused == ()
    state = copied(source)
    del state["second.weight"]  # as safetensors files keep them
    assert load_weights(Shared(), save(state)).fraction == 1
    state["second.weight"] = state["first.weight"] + 1
    assert "both match first.weight" in refused(Shared(), save(state))


def test_a_backbone_without_storage_is_refused(save: Callable[[object], Path]) -> None:
    path = save(small_backbone(0).state_dict())
    with torch.device("meta"):
        target = ResNetCifar(depth=8)
    with pytest.raises(ValueError, match=r"has no values yet in conv1\.weight"):
        load_weights(target, path)


def test_memory_format_and_gradient_flags_stay(save: Callable[[object], Path]) -> None:
    target = (
        small_backbone(1).to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
    )
    load_weights(target, save(small_backbone(0).state_dict()))
    assert target.state_dict()["layer1.0.conv1.weight"].is_contiguous(
        memory_format=torch.channels_last
    )
    assert not any(p.requires_grad for p in target.parameters())


def test_report_type_is_exported_here(save: Callable[[object], Path]) -> None:
    assert isinstance(
        load_weights(small_backbone(1), save(small_backbone(0).state_dict())), TransferReport
    )


def test_an_adapter_around_the_backbone_is_no_other_network(
    save: Callable[[object], Path],
) -> None:
    source, target = small_backbone(0), nn.Sequential()
    target.add_module("model", small_backbone(1))
    report = load_weights(target, save(source.state_dict()), reinit=["conv1"])
    assert report.reinitialised == ("model.conv1.weight",)
    assert report.fraction == 1
    assert load_weights(target, save({"backbone.model." + k: v for k, v in copied(source).items()}))
    assert equal(source.state_dict(), target.get_submodule("model").state_dict())
