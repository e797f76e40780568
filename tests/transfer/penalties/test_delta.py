from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.transfer.penalties.steps import begun, checkpoint, images, network, start, step
from tl.backbones import CrossStitch, ResNet18, ResNet20
from tl.transfer.penalties import DELTA
from tl.transfer.penalties.delta import _side_by_side, map_distance


def test_the_value_by_hand() -> None:
    # one image of two channels of 1x2 pixels: squared distances 1 + 4 and 9
    maps, source = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]]), torch.zeros(1, 2, 1, 2)
    attention = torch.tensor([0.25, 0.75])
    # 1/2 * C * sum_c a_c * distance_c / (H W)
    assert float(map_distance(maps, source, attention)) == pytest.approx(
        0.5 * 2 * (0.25 * 5 + 0.75 * 9) / 2
    )


def test_the_distance_by_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, source = (torch.randn(3, 4, 2, 5, generator=generator) for _ in range(2))
    attention = torch.rand(4, generator=generator).softmax(0)
    wanted = 0.0
    for image in range(3):
        for channel in range(4):
            change = maps[image, channel] - source[image, channel]
            wanted += 0.5 * 4 * float(attention[channel]) * float(change.square().sum()) / 10
    assert float(map_distance(maps, source, attention)) == pytest.approx(wanted, rel=1e-5)


def test_a_filter_that_the_target_needs_gets_the_attention(tmp_path: Path) -> None:
    """Labels by the brightness that one filter passes on: zeroing it costs the most."""
    backbone, heads = network(classes=2)
    with torch.no_grad():
        backbone.get_parameter("conv.weight").mul_(0.01)
        backbone.get_parameter("conv.weight")[2] = 0.05
        backbone.load_state_dict({**backbone.state_dict(), "top.weight": 5 * torch.eye(4)})
    labels = torch.arange(40) % 2
    pixels = 0.1 * images(40) + (2.0 * labels - 1)[:, None, None, None]
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    penalty = DELTA()
    penalty.attach(backbone, heads)
    penalty.start(start(backbone, heads, path, batches=lambda _: [(pixels, labels)]))
    attention = penalty.attention.get_buffer("conv")
    assert float(attention.sum()) == pytest.approx(1)
    assert int(attention.argmax()) == 2


def moved(tmp_path: Path, **settings: float) -> tuple[DELTA, nn.Module, nn.ModuleDict, nn.Module]:
    """A penalty whose network has left its source."""
    backbone, heads = network()
    path = checkpoint(tmp_path / "source.ckpt", backbone, heads)
    penalty = begun(DELTA(**settings), backbone, heads, path)  # type: ignore[arg-type]
    assert isinstance(penalty, DELTA)
    source, _ = network()
    with torch.no_grad():
        backbone.get_parameter("conv.weight").add_(0.1)
    return penalty, backbone, heads, source


def test_the_whole_term(tmp_path: Path) -> None:
    penalty, backbone, heads, source = moved(tmp_path, alpha=3.0, beta=0.5)
    pixels, labels = images(), torch.arange(6) % 5
    attention = penalty.attention.get_buffer("conv")
    change = (
        backbone.get_submodule("conv")(pixels) - source.get_submodule("conv")(pixels)
    ).square()
    size = sum(float(p.detach().square().sum()) for p in heads.parameters())
    wanted = (
        3.0 * float((attention * change.detach().mean((2, 3)) * 4).sum(1).mean()) / 2 + 0.25 * size
    )
    assert float(penalty(step(backbone, heads, pixels, labels))) == pytest.approx(wanted, rel=1e-5)


def test_the_term_is_a_mean_over_images(tmp_path: Path) -> None:
    penalty, backbone, heads, _ = moved(tmp_path, beta=0.0)

    def term(pixels: Tensor) -> float:
        return float(penalty(step(backbone, heads, pixels, torch.zeros(len(pixels)))))

    pixels = images()
    assert term(torch.cat([pixels, pixels])) == pytest.approx(term(pixels), rel=1e-5)
    halves = [term(pixels[:3]), term(pixels[3:])]
    assert sum(halves) / 2 == pytest.approx(term(pixels), rel=1e-5)


def test_a_pass_of_all_sources_and_one_for_each_are_equal(tmp_path: Path) -> None:
    penalty, backbone, heads, _ = moved(tmp_path)
    whole = step(backbone, heads, images(), torch.zeros(6))
    [maps] = whole.layers["conv"]
    cut = {"a": images()[:2], "b": images()[2:]}
    for layers in ({"conv": [maps]}, {"conv": [maps[:2], maps[2:]]}):
        parts = type(whole)(**{**vars(whole), "images": cut, "layers": layers})
        assert float(penalty(parts)) == pytest.approx(float(penalty(whole)), rel=1e-5)
    twice = type(whole)(**{**vars(whole), "layers": {"conv": [maps, maps]}})
    with pytest.raises(ValueError, match=r"outputs of \[6, 6\] samples for inputs of \[6\]"):
        penalty(twice)


def test_the_layers_are_the_authors() -> None:
    penalty = DELTA()
    penalty.attach(ResNet18(), nn.ModuleDict())
    assert penalty.reads_layers == tuple(f"layer{stage}.1.conv2" for stage in (1, 2, 3, 4))
    chosen = DELTA(layers=["layer1.0.conv1"])
    chosen.attach(ResNet18(), nn.ModuleDict())
    assert dict(chosen.attention.named_buffers()).keys() == {"layer1/0/conv1"}


def test_decay_is_off_where_the_term_acts() -> None:
    assert DELTA().decays() == {"backbone", "head"}
    assert DELTA(beta=0).decays() == {"backbone"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1}, "`alpha` must be 0 or more, got -1"),
        ({"beta": -1}, "`beta` must be 0 or more, got -1"),
        ({"images": 0}, "`images` must be 1 or more, got 0"),
        ({"temperature": 0}, "`temperature` must be positive, got 0"),
    ],
)
def test_a_number_out_of_range_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DELTA(**settings)  # type: ignore[arg-type]


def test_a_backbone_without_such_convolutions_is_refused() -> None:
    with pytest.raises(ValueError, match="the backbone Linear has none after a stem; name some"):
        DELTA().attach(nn.Linear(2, 2), nn.ModuleDict())
    with pytest.raises(ValueError, match=r"ResNet18 has no convolution 'layer1', 'layer9'; name"):
        DELTA(layers=["layer1", "layer9"]).attach(ResNet18(), nn.ModuleDict())
    with pytest.raises(ValueError, match="and CrossStitch has one for each task; choose another"):
        DELTA().attach(CrossStitch(ResNet20()), nn.ModuleDict())
    with pytest.raises(ValueError, match="must be attached to a model first"):
        DELTA()(step(*network(), images(), torch.zeros(6)))


def test_two_views_may_have_taken_two_passes() -> None:
    maps = [torch.full((count, 1), float(count)) for count in (2, 3, 4)]
    reference = [torch.zeros(5, 1), torch.zeros(4, 1)]
    both = _side_by_side("a", maps, reference)
    pairs = [(found.flatten().tolist(), len(kept)) for found, kept in both]
    assert pairs == [([2.0, 2.0, 3.0, 3.0, 3.0], 5), ([4.0] * 4, 4)]
    with pytest.raises(ValueError, match="one output of 'a' for each sample"):
        list(_side_by_side("a", [], []))  # a layer that the forward pass leaves out
    for wrong in (maps[:2], [*maps, maps[0]], [maps[2], maps[0], maps[1]], []):
        with pytest.raises(ValueError, match=r"one output of 'a' for each sample"):
            list(_side_by_side("a", wrong, reference))
