"""Weights come into a backbone whole, or not at all."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from tl.backbones import ResNet18, ResNet20, ResNet32, WideResNet
from tl.backbones.resnet_cifar import ResNetCifar
from tl.tasks.heads import linear_head
from tl.transfer.weights import TransferReport, WeightsMismatchError, load_weights

State = dict[str, Tensor]


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


def _backbone(seed: int) -> ResNetCifar:
    """Return a small backbone in which no value is the initial one of another seed."""
    torch.manual_seed(seed)
    net = ResNetCifar(depth=8)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
        else:
            tensor.fill_(seed + 1)
    return net


def _equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def _state(module: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def _values(module: nn.Module) -> list[Tensor]:
    return list(module.state_dict().values())


def _compiled(module: nn.Module) -> nn.Module:
    compiled = torch.compile(module, backend="eager")
    assert isinstance(compiled, nn.Module)
    return compiled


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], Path]:
    """Write something with ``torch.save`` and return where."""

    def write(content: object) -> Path:
        torch.save(content, tmp_path / "source.ckpt")
        return tmp_path / "source.ckpt"

    return write


def _refused(backbone: nn.Module, path: Path, **options: Any) -> str:
    """Return the error that loading gives, which must be one line and leave all as it was."""
    before = _state(backbone)
    with pytest.raises(ValueError, match=r".") as caught:
        load_weights(backbone, path, **options)
    assert _equal(before, _state(backbone))
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, WeightsMismatchError):
        assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def test_own_checkpoint_comes_back_bit_for_bit(save: Callable[[object], Path]) -> None:
    source, target = _backbone(0), _backbone(1)
    path = save({"state_dict": Net(source).state_dict(), "epoch": 3, "global_step": 70})
    report = load_weights(target, path)
    assert _equal(source.state_dict(), target.state_dict())
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
    source, target = _backbone(0), _backbone(1)
    assert load_weights(target, save(wrap(source))).fraction == 1
    assert _equal(source.state_dict(), target.state_dict())


def test_safetensors_fit(tmp_path: Path) -> None:
    source, target = _backbone(0), _backbone(1)
    safetensors.torch.save_file(Net(source).state_dict(), tmp_path / "a.safetensors")
    assert load_weights(target, tmp_path / "a.safetensors").fraction == 1
    assert _equal(source.state_dict(), target.state_dict())


def test_a_compiled_backbone_is_filled(save: Callable[[object], Path]) -> None:
    source, target = _backbone(0), _backbone(1)
    names = tuple(target.state_dict())
    target.add_module("layer1", _compiled(target.layer1))
    report = load_weights(_compiled(target), save(source.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(*map(_values, (source, target)), strict=True))
    assert report.loaded == names


def test_torchvision_resnet18_fits_but_for_the_stem(save: Callable[[object], Path]) -> None:
    torch.manual_seed(0)
    state = torchvision.models.resnet18().state_dict()
    path, target = save(state), ResNet18()
    message = _refused(target, path)
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
    assert _equal(target.state_dict(), {k: v for k, v in state.items() if not k.startswith("fc.")})


def test_nothing_in_common_is_refused(save: Callable[[object], Path]) -> None:
    path = save({f"student.{k}": v for k, v in _backbone(0).state_dict().items()})
    message = _refused(_backbone(1), path)
    assert "fills 0 of the " in message
    assert "(0 of 35 tensors), less than 90%" in message
    assert "missing: conv1.weight, bn1.weight" in message
    assert "unused in the file: student.conv1.weight" in message
    assert "`rename`" in message
    assert "`reinit`" in message


def test_too_little_is_refused_and_the_limit_is_an_argument(
    save: Callable[[object], Path],
) -> None:
    state = {k: v for k, v in _backbone(0).state_dict().items() if not k.startswith("layer3")}
    path, target = save(state), _backbone(1)
    assert "less than 90%" in _refused(target, path)
    report = load_weights(target, path, min_fraction=0.2)
    assert 0.2 < report.fraction < 0.3
    assert all(name.startswith("layer3") for name in report.reinitialised)
    assert load_weights(_backbone(1), path, reinit=["layer3"]).fraction == 1


def test_another_depth_is_refused_in_both_directions(save: Callable[[object], Path]) -> None:
    assert "missing: layer1.3.conv1.weight" in _refused(ResNet32(), save(ResNet20().state_dict()))
    # each layer of the shallower network is there in the deeper one, in the same shape
    message = _refused(ResNet20(), save(Net(ResNet32()).state_dict()))
    assert "such as backbone.layer1.3.conv1.weight" in message
    assert "deeper network" in message


def test_another_width_is_refused_with_both_shapes(save: Callable[[object], Path]) -> None:
    message = _refused(WideResNet(10, 2), save(WideResNet(10, 1).state_dict()))
    assert "layer1.0.bn1.weight" not in message  # 16 channels in both
    assert "layer1.0.conv1.weight (16, 16, 3, 3) against" in message
    assert "(32, 16, 3, 3)" in message
    assert "another architecture (width" in message


def test_two_names_for_one_target_are_refused(save: Callable[[object], Path]) -> None:
    source, other, target = _backbone(0), _backbone(2), _backbone(1)
    both = {
        f"{p}.{k}": v
        for p, n in (("encoder", source), ("backbone", other))
        for k, v in n.state_dict().items()
    }
    path = save(both)
    message = _refused(target, path)
    assert "encoder.conv1.weight and backbone.conv1.weight both match conv1.weight" in message
    report = load_weights(target, path, rename={"encoder": ""})
    assert _equal(source.state_dict(), target.state_dict())
    assert report.unused == tuple(f"backbone.{name}" for name in other.state_dict())


def test_rename_maps_names(save: Callable[[object], Path]) -> None:
    source, target = _backbone(0), _backbone(1)
    state = {f"module.encoder_q.{k}": v for k, v in source.state_dict().items()}
    state |= {f"module.encoder_k.{k}": v for k, v in _backbone(2).state_dict().items()}
    path = save({"state_dict": state})
    assert "fills 0 of" in _refused(target, path)
    assert load_weights(target, path, rename={"encoder_q": ""}).fraction == 1
    assert _equal(source.state_dict(), target.state_dict())


def test_entries_without_effect_are_refused(save: Callable[[object], Path]) -> None:
    path, target = save(_backbone(0).state_dict()), _backbone(1)
    assert "'layr1' of `rename` matches no name" in _refused(target, path, rename={"layr1": "x"})
    assert "maps to names under 'x' that" in _refused(target, path, rename={"layer1": "x"})
    assert "'con1', which the backbone does not have; did you mean conv1" in _refused(
        target, path, reinit=["con1"]
    )
    assert "'layer'" in _refused(target, path, reinit=["layer"])
    assert "`min_fraction`" in _refused(target, path, min_fraction=0.0)
    with pytest.raises(TypeError, match="`reinit` must be a list"):
        load_weights(target, path, reinit="conv1")


def test_leaving_everything_out_is_refused(save: Callable[[object], Path]) -> None:
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3"]
    path = save(_backbone(0).state_dict())
    assert "nothing to load" in _refused(_backbone(1), path, reinit=parts)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(
    save: Callable[[object], Path], value: float
) -> None:
    source = _backbone(0)
    source.state_dict()["layer3.0.bn2.running_var"][5] = value
    message = _refused(_backbone(1), save(source.state_dict()))
    assert "not finite" in message
    assert "layer3.0.bn2.running_var" in message


def test_floating_types_are_converted(save: Callable[[object], Path]) -> None:
    source, target = _backbone(0), _backbone(1)
    load_weights(target, save(source.double().state_dict()))
    assert _equal(source.float().state_dict(), target.state_dict())
    load_weights(target.bfloat16(), save(source.state_dict()))
    assert _equal(source.bfloat16().state_dict(), target.state_dict())


def test_values_beyond_the_targets_type_are_refused(save: Callable[[object], Path]) -> None:
    source = _backbone(0)
    source.state_dict()["bn1.running_var"][0] = 1e6
    assert "beyond the range of the backbone's type" in _refused(
        _backbone(1).half(), save(source.state_dict())
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda w: (w * 10).to(torch.int8),
        lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
        lambda w: w.to(torch.complex64),
        lambda w: w.to_sparse(),
        lambda w: w.to("meta"),
    ],
    ids=["int8", "quantised", "complex", "sparse", "meta"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_is_no_plain_floating_tensor_is_refused(
    save: Callable[[object], Path], change: Callable[[Tensor], Tensor]
) -> None:
    state = _state(_backbone(0))
    state["conv1.weight"] = change(state["conv1.weight"])
    message = _refused(_backbone(1), save(state))
    assert "types differ: conv1.weight" in message


def test_weights_without_running_statistics_are_refused(save: Callable[[object], Path]) -> None:
    state = {name: p.detach() for name, p in _backbone(0).named_parameters()}
    message = _refused(_backbone(1), save(state))
    assert "no running statistics (14 missing: bn1.running_mean" in message


def test_old_checkpoints_without_batch_counters_fit(save: Callable[[object], Path]) -> None:
    state = {k: v for k, v in _backbone(0).state_dict().items() if "num_batches" not in k}
    report = load_weights(_backbone(1), save(state))
    assert report.fraction == 1
    assert all(name.endswith("num_batches_tracked") for name in report.reinitialised)


def test_a_file_without_weights_is_refused(save: Callable[[object], Path]) -> None:
    message = _refused(_backbone(1), save({"epoch": 3, "optimizer": {"lr": 0.1}}))
    assert "has no weights, only epoch, optimizer" in message


def test_tied_weights_fit_and_stay_tied(save: Callable[[object], Path]) -> None:
    source, target = Shared(), Shared()
    report = load_weights(target, save(source.state_dict()))
    assert _equal(source.state_dict(), target.state_dict())
    assert target.first.weight is target.second.weight
    assert report.unused == ()
    state = _state(source)
    del state["second.weight"]  # as safetensors files keep them
    assert load_weights(Shared(), save(state)).fraction == 1
    state["second.weight"] = state["first.weight"] + 1
    assert "both match first.weight" in _refused(Shared(), save(state))


def test_a_backbone_without_storage_is_refused(save: Callable[[object], Path]) -> None:
    path = save(_backbone(0).state_dict())
    with torch.device("meta"):
        target = ResNetCifar(depth=8)
    with pytest.raises(ValueError, match=r"has no values yet in conv1\.weight"):
        load_weights(target, path)


def test_memory_format_and_gradient_flags_stay(save: Callable[[object], Path]) -> None:
    target = _backbone(1).to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
    load_weights(target, save(_backbone(0).state_dict()))
    assert target.state_dict()["layer1.0.conv1.weight"].is_contiguous(
        memory_format=torch.channels_last
    )
    assert not any(p.requires_grad for p in target.parameters())


def test_report_type_is_exported_here(save: Callable[[object], Path]) -> None:
    assert isinstance(load_weights(_backbone(1), save(_backbone(0).state_dict())), TransferReport)


def test_layers_under_other_names_are_refused_though_most_values_fit(
    save: Callable[[object], Path],
) -> None:
    state = {k.replace("downsample", "shortcut"): v for k, v in ResNet18().state_dict().items()}
    path = save(state)
    message = _refused(ResNet18(), path)
    assert "has no layer2.0.downsample.0.weight" in message
    assert "in the same parts, layer2.0.shortcut.0.weight" in message
    blocks = [f"layer{i}.0" for i in (2, 3, 4)]
    rename = {f"{block}.shortcut": f"{block}.downsample" for block in blocks}
    assert load_weights(ResNet18(), path, rename=rename).reinitialised == ()
    report = load_weights(ResNet18(), path, reinit=[f"{block}.downsample" for block in blocks])
    assert len(report.reinitialised) == 18
    assert report.fraction == 1


def test_a_few_missing_values_are_reported(save: Callable[[object], Path]) -> None:
    state = _state(_backbone(0))
    del state["bn1.bias"]
    report = load_weights(_backbone(1), save(state))
    assert report.reinitialised == ("bn1.bias",)
    assert 0.99 < report.fraction < 1


def test_an_adapter_around_the_backbone_is_no_other_network(
    save: Callable[[object], Path],
) -> None:
    source, target = _backbone(0), nn.Sequential()
    target.add_module("model", _backbone(1))
    report = load_weights(target, save(source.state_dict()), reinit=["conv1"])
    assert report.reinitialised == ("model.conv1.weight",)
    assert report.fraction == 1
    assert load_weights(target, save({"backbone.model." + k: v for k, v in _state(source).items()}))
    assert _equal(source.state_dict(), target.get_submodule("model").state_dict())
