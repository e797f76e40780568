"""What does not fit is refused by name, and nothing has changed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.transfer.loading import copied, equal, refused, small_backbone
from tl.backbones import ResNet18, ResNet20, ResNet32, WideResNet
from tl.transfer.names import targets_of
from tl.transfer.weight_checks import other_channels
from tl.transfer.weights import load_weights


def test_nothing_in_common_is_refused(save: Callable[[object], Path]) -> None:
    path = save({f"student.{k}": v for k, v in small_backbone(0).state_dict().items()})
    message = refused(small_backbone(1), path)
    assert "fills 0 of the " in message
    assert "(0 of 35 tensors), less than 90%" in message
    assert "missing: conv1.weight, bn1.weight" in message
    assert "unused in the file: student.conv1.weight" in message
    assert "`rename`" in message
    assert "`reinit`" in message


def test_too_little_is_refused_and_the_limit_is_an_argument(
    save: Callable[[object], Path],
) -> None:
    state = {k: v for k, v in small_backbone(0).state_dict().items() if not k.startswith("layer3")}
    path, target = save(state), small_backbone(1)
    assert "less than 90%" in refused(target, path)
    report = load_weights(target, path, min_fraction=0.2)
    assert 0.2 < report.fraction < 0.3
    assert all(name.startswith("layer3") for name in report.reinitialised)
    assert load_weights(small_backbone(1), path, reinit=["layer3"]).fraction == 1


def test_another_depth_is_refused_in_both_directions(save: Callable[[object], Path]) -> None:
    assert "missing: layer1.3.conv1.weight" in refused(ResNet32(), save(ResNet20().state_dict()))
    # each layer of the shallower network is there in the deeper one, in the same shape
    message = refused(
        ResNet20(), save({f"backbone.{k}": v for k, v in ResNet32().state_dict().items()})
    )
    assert "such as backbone.layer1.3.conv1.weight" in message
    assert "deeper network" in message


def test_another_width_is_refused_with_both_shapes(save: Callable[[object], Path]) -> None:
    message = refused(WideResNet(10, 2), save(WideResNet(10, 1).state_dict()))
    assert "layer1.0.bn1.weight" not in message  # 16 channels in both
    assert "layer1.0.conv1.weight (16, 16, 3, 3) against" in message
    assert "(32, 16, 3, 3)" in message
    assert "another architecture (width" in message


def test_leaving_everything_out_is_refused(save: Callable[[object], Path]) -> None:
    parts = ["conv1", "bn1", "layer1", "layer2", "layer3"]
    path = save(small_backbone(0).state_dict())
    assert "nothing to load" in refused(small_backbone(1), path, reinit=parts)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(
    save: Callable[[object], Path], value: float
) -> None:
    source = small_backbone(0)
    source.state_dict()["layer3.0.bn2.running_var"][5] = value
    message = refused(small_backbone(1), save(source.state_dict()))
    assert "not finite" in message
    assert "layer3.0.bn2.running_var" in message


def test_floating_types_are_converted(save: Callable[[object], Path]) -> None:
    source, target = small_backbone(0), small_backbone(1)
    load_weights(target, save(source.double().state_dict()))
    assert equal(source.float().state_dict(), target.state_dict())
    load_weights(target.bfloat16(), save(source.state_dict()))
    assert equal(source.bfloat16().state_dict(), target.state_dict())


def test_values_beyond_the_targets_type_are_refused(save: Callable[[object], Path]) -> None:
    source = small_backbone(0)
    source.state_dict()["bn1.running_var"][0] = 1e6
    assert "beyond the range of the backbone's type" in refused(
        small_backbone(1).half(), save(source.state_dict())
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
    state = copied(small_backbone(0))
    state["conv1.weight"] = change(state["conv1.weight"])
    message = refused(small_backbone(1), save(state))
    assert "types differ: conv1.weight" in message


def test_weights_without_running_statistics_are_refused(save: Callable[[object], Path]) -> None:
    state = {name: p.detach() for name, p in small_backbone(0).named_parameters()}
    message = refused(small_backbone(1), save(state))
    assert "no running statistics (14 missing: bn1.running_mean" in message


def test_old_checkpoints_without_batch_counters_fit(save: Callable[[object], Path]) -> None:
    state = {k: v for k, v in small_backbone(0).state_dict().items() if "num_batches" not in k}
    report = load_weights(small_backbone(1), save(state))
    assert report.fraction == 1
    assert all(name.endswith("num_batches_tracked") for name in report.reinitialised)


def test_layers_under_other_names_are_refused_though_most_values_fit(
    save: Callable[[object], Path],
) -> None:
    state = {k.replace("downsample", "shortcut"): v for k, v in ResNet18().state_dict().items()}
    path = save(state)
    message = refused(ResNet18(), path)
    assert "has no layer2.0.downsample.0.weight" in message
    assert "in the same parts, layer2.0.shortcut.0.weight" in message
    blocks = [f"layer{i}.0" for i in (2, 3, 4)]
    rename = {f"{block}.shortcut": f"{block}.downsample" for block in blocks}
    assert load_weights(ResNet18(), path, rename=rename).reinitialised == ()
    report = load_weights(ResNet18(), path, reinit=[f"{block}.downsample" for block in blocks])
    assert len(report.reinitialised) == 18
    assert report.fraction == 1


def test_a_few_missing_values_are_reported(save: Callable[[object], Path]) -> None:
    state = copied(small_backbone(0))
    del state["bn1.bias"]
    report = load_weights(small_backbone(1), save(state))
    assert report.reinitialised == ("bn1.bias",)
    assert 0.99 < report.fraction < 1


def explained(source: nn.Module, backbone: nn.Module) -> str | None:
    state = source.state_dict()
    return other_channels(state, {name: name for name in state}, targets_of(backbone, ()))


def test_only_other_input_channels_of_the_first_convolution_are_explained() -> None:
    colour = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    found = explained(colour, nn.Sequential(nn.Conv2d(13, 4, 3), nn.Conv2d(4, 5, 3)))
    assert found is not None
    assert "found 3 input channels in 0.weight (4, 3, 3, 3), expected 13" in found
    assert "set the backbone's `in_channels` to 3, or re-initialise this layer" in found
    assert "`reinit: [0]`" in found
    assert explained(colour, colour) is None
    # a second convolution that differs makes it another architecture
    assert explained(colour, nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(6, 5, 3))) is None
    signals = nn.Sequential(nn.Conv1d(1, 4, 3))
    assert "found 1 input" in str(explained(signals, nn.Sequential(nn.Conv1d(2, 4, 3))))


def test_a_network_without_convolutions_is_not_explained() -> None:
    with torch.no_grad():
        assert explained(nn.Linear(2, 2), nn.Linear(3, 2)) is None
