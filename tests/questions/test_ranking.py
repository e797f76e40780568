from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.backbones import ResNet20
from tl.questions.candidates import Candidate
from tl.questions.features import Network
from tl.questions.measured import Measured
from tl.questions.ranking import Ranking, rank
from tl.questions.samples import Samples, TensorSamples
from tl.tasks import Classification, Regression, Segmentation, Task


class Picked(nn.Module):
    """Features: so much of the signal in the first inputs, the rest noise."""

    def __init__(self, signal: float) -> None:
        super().__init__()
        self.num_features = 6
        self.signal = nn.Parameter(torch.tensor(signal))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([self.signal * inputs[:, :3], inputs[:, 3:]], dim=1)


def read(samples: Sequence[Any]) -> Tensor:
    return torch.stack(list(samples))


def candidate(name: str, signal: float, **given: Any) -> Candidate:
    heads = {"z": nn.Linear(6, 4)} if given.pop("head", False) else {}
    network = Network(Picked(signal), read, name, heads)
    return Candidate(name, network, "tensors", "synthetic", 6, **given)


def target(task: Task, targets: Tensor, signal: Tensor) -> Samples:
    noise = torch.randn(len(targets), 3, generator=torch.Generator().manual_seed(0))
    inputs = torch.cat([signal + 0.3 * noise.flip(0), noise], dim=1)
    return TensorSamples(inputs, {"": targets}, [task])


def classes(count: int = 90) -> Samples:
    labels = torch.arange(count) % 3
    return target(Classification("three", 3), labels, functional.one_hot(labels, 3).float())


def ranked(samples: Samples, tmp_path: Path, *signals: float, **given: Any) -> Ranking:
    sources = [candidate(f"s{signal:g}", signal, head=True) for signal in signals]
    return rank(sources, at(samples), cache=tmp_path, resamples=50, **given)


def at(samples: Samples) -> Callable[[Any], Samples]:
    return lambda _: samples


@pytest.mark.parametrize("order", ["knn", "probe", "logme", "h_score"])
def test_signal_ranks_before_noise_whatever_the_order(order: Any, tmp_path: Path) -> None:
    found = ranked(classes(), tmp_path, 0.0, 4.0, order=order)
    assert [each.name for each in found.sources] == ["s4", "s0"]
    assert [(each.rank, each.low, each.high) for each in found.sources] == [(1, 1, 1), (2, 2, 2)]
    best, noise = (each.scores for each in found.sources)
    for name in ("knn", "probe", "logme", "h_score"):
        assert best[name] > noise[name]
    assert best["leep"] <= 0
    assert best["parameters"] == 6
    assert math.isnan(best["accuracy"])
    assert (found.samples, found.classes, found.order) == (90, 3, order)


def test_what_is_alike_is_not_set_apart(tmp_path: Path) -> None:
    found = ranked(classes(), tmp_path, 0.0, 0.01, 4.0)
    first, second, third = found.sources
    assert not first.overlaps(second)
    assert second.overlaps(third)
    assert first.name == "s4"


def test_numbers_have_the_scores_that_are_defined(tmp_path: Path) -> None:
    signal = torch.randn(90, 3, generator=torch.Generator().manual_seed(1))
    samples = target(Regression("level"), signal.sum(1), signal)
    found = ranked(samples, tmp_path, 0.0, 3.0)
    assert [each.name for each in found.sources] == ["s3", "s0"]
    best = found.sources[0].scores
    assert best["probe"] > 0.8
    assert found.sources[1].scores["knn"] < 0.1
    assert math.isnan(best["h_score"])
    assert math.isnan(best["leep"])
    assert found.classes is None
    with pytest.raises(ValueError, match="leep is not defined for this target and these sources"):
        ranked(samples, tmp_path, 0.0, 3.0, order="leep")


def test_a_dense_task_leaves_whole_images_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.rand(12, 3, 16, 16)
    maps = (images[:, 0] > 0.5).long()
    samples = TensorSamples(images, {"": maps}, [Segmentation("bright", 2)])
    sources = [
        Candidate(str(n), Network(ResNet20(), read, str(n)), "tensors", "random", 1)
        for n in range(2)
    ]
    found = rank(sources, at(samples), cache=tmp_path, resamples=5)
    assert found.samples == 12
    assert all(0 <= each.scores["knn"] <= 1 for each in found.sources)
    assert all(math.isfinite(each.scores["logme"]) for each in found.sources)


class Seeing(nn.Module):
    """Its map is what it sees."""

    num_features, map_channels = 1, (1,)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def maps(self, inputs: Tensor) -> list[Tensor]:
        return [self.scale * inputs]


@pytest.mark.parametrize("tall", [False, True])
def test_positions_follow_the_crop_of_each_source(tall: bool, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(2, (12, 16, 32), generator=generator)
    maps = maps.transpose(1, 2) if tall else maps
    samples = TensorSamples(maps[:, None].float(), {"": maps}, [Segmentation("bright", 2)])

    def cropped(items: Sequence[Any]) -> Tensor:
        images = read(items)
        return images[:, :, 8:24] if tall else images[:, :, :, 8:24]

    sources = [
        Candidate(how.__name__, Network(Seeing(), how, how.__name__), "tensors", "made", 1)
        for how in (read, cropped)
    ]
    found = rank(sources, at(samples), cache=tmp_path, resamples=5)
    assert [each.scores["probe"] for each in found.sources] == [1, 1]


def test_columns_are_compared_with_what_was_measured(tmp_path: Path) -> None:
    signals = [0.0, 0.3, 0.6, 1.0, 2.0, 4.0, 6.0, 9.0]
    measured = {f"s{signal:g}": signal for signal in signals}
    found = ranked(classes(), tmp_path, *signals, measured=measured)
    by = {each.column: each for each in found.agreements}
    assert by["knn"].tau > 0.5
    assert by["knn"].sources == 8
    assert by["knn"].high < 1
    assert math.isnan(by["parameters"].tau)  # all have the same number
    assert "accuracy" not in by


def test_lower_may_be_better_and_a_result_that_is_not_finite_does_not_count(
    tmp_path: Path,
) -> None:
    signals = [0.0, 0.3, 0.6, 1.0, 2.0, 4.0, 6.0, 9.0]
    losses = {f"s{signal:g}": -signal for signal in signals} | {"s9": math.nan}
    found = ranked(classes(), tmp_path, *signals, measured=Measured(losses, lower_is_better=True))
    by = {each.column: each for each in found.agreements}
    assert by["knn"].tau > 0.5
    assert by["knn"].sources == 7
    assert {each.name: each.measured for each in found.sources}["s1"] == -1


def test_a_source_without_the_score_has_no_rank(tmp_path: Path) -> None:
    sources = [candidate("plain", 9.0), candidate("whole", 1.0, head=True)]
    found = rank(sources, at(classes()), order="leep", cache=tmp_path)
    assert [(each.name, each.rank) for each in found.sources] == [("whole", 1), ("plain", None)]
    assert not found.sources[0].overlaps(found.sources[1])


def test_mistakes_are_said(tmp_path: Path) -> None:
    samples = classes()
    with pytest.raises(ValueError, match="compares sources, got 1; name two or more"):
        ranked(samples, tmp_path, 1.0)
    with pytest.raises(ValueError, match="The source s1 is named twice"):
        ranked(samples, tmp_path, 1.0, 1.0)
    twins = [replace(candidate(name, 1.0), sha256="a") for name in ("s", "t")]
    with pytest.raises(ValueError, match="The source t is named twice, first as s; name it once"):
        rank(twins, at(samples), cache=tmp_path)
    text = replace(candidate("t", 1.0), modality="texts")
    with pytest.raises(ValueError, match="t reads texts, and the target has tensors; name sources"):
        rank([candidate("s", 1.0), text], at(samples), cache=tmp_path)
    with pytest.raises(ValueError, match="bad has features that are not finite"):
        rank([candidate("s", 1.0), candidate("bad", math.nan)], at(samples), cache=tmp_path)
