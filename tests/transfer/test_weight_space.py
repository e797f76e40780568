"""Averages by hand, statistics by hand, and a soup that is never worse than its best."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from tl.transfer.weight_space import (
    average_weights,
    check_alike,
    estimate_statistics,
    greedy_soup,
)


class PerSource(nn.BatchNorm2d):
    """Batch norm that says which source's statistics are in force."""

    source: str | None = None


def state(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net(torch.randn(2, 3, 5, 5))
    found = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found["1.num_batches_tracked"].fill_(seed)
    return found


def test_interpolation_by_hand() -> None:
    a, b = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([5.0, -2.0])}
    assert average_weights([a, b], [0.75, 0.25])["w"].tolist() == [2.0, 1.0]
    assert average_weights([a, b, b])["w"].tolist() == pytest.approx([11 / 3, -2 / 3])


@pytest.mark.parametrize("alpha", [0, 1])
def test_the_ends_are_the_networks_bit_for_bit(alpha: int) -> None:
    ends = state(0), state(1)
    found = average_weights(ends, [1 - alpha, alpha])
    for name, tensor in found.items():
        expected = ends[1 if name.endswith("tracked") else alpha][name]
        assert torch.equal(tensor, expected), name
        assert tensor.data_ptr() != expected.data_ptr(), "a copy, that may be changed"


def test_equal_networks_average_to_themselves() -> None:
    one = {name: tensor.bfloat16() for name, tensor in state(0).items()}
    found = average_weights([one, one, one])
    assert all(torch.equal(found[name], tensor) for name, tensor in one.items())
    assert found["0.weight"].dtype == torch.bfloat16


def test_whole_numbers_are_the_last_networks() -> None:
    found = average_weights([state(3), state(8)])["1.num_batches_tracked"]
    assert found.dtype == torch.int64
    assert found == 8


def test_other_networks_are_refused() -> None:
    a, b = state(0), state(1)
    del b["0.bias"]
    for pair in ((a, b), (b, a)):
        with pytest.raises(ValueError, match=r"one has 0\.bias and another does not"):
            check_alike(*pair)
    b = state(1)
    b["0.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"0\.bias is \(4,\) in one and \(5,\) in another"):
        average_weights([a, b])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0], "2 numbers"),
        ([0.5, 0.6], "sum to 1"),
        ([1.5, -0.5], "0 or more"),
        ([float("nan"), 1.0], "0 or more"),
    ],
)
def test_shares_are_checked(weights: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        average_weights([state(0), state(1)], weights)


def test_nothing_has_no_average() -> None:
    with pytest.raises(ValueError, match="Nothing to average"):
        average_weights([])
    with pytest.raises(ValueError, match="Nothing to select"):
        greedy_soup(0, lambda _: 1.0)


def quality(values: dict[tuple[int, ...], float]) -> Callable[[Sequence[int]], float]:
    return lambda members: values[tuple(sorted(members))]


def test_greedy_selection_by_hand() -> None:
    # the best is 1; 0 lowers it, 2 then leaves it as it is, which the paper takes in
    values = {(0,): 0.6, (1,): 0.7, (2,): 0.5, (0, 1): 0.65, (1, 2): 0.7}
    soup = greedy_soup(3, quality(values))
    assert soup.members == (1, 2)
    assert soup.accuracy == 0.7
    assert soup.alone == (0.6, 0.7, 0.5)


def test_a_greedy_soup_is_never_worse_than_its_best_ingredient() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        table: dict[tuple[int, ...], float] = {}

        def drawn(members: Sequence[int], table: dict[tuple[int, ...], float] = table) -> float:
            key = tuple(sorted(members))
            return table.setdefault(key, float(torch.rand((), generator=generator)))

        soup = greedy_soup(4, drawn)
        assert soup.accuracy >= max(soup.alone)
        assert soup.accuracy == table[tuple(sorted(soup.members))]


def test_an_accuracy_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="is NaN"):
        greedy_soup(2, lambda _: float("nan"))


def test_statistics_are_those_of_the_data() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3, momentum=0.3)
    norm(torch.randn(9, 3, 4, 4) * 50)  # what was there before does not count
    images = torch.randn(10, 3, 4, 4, dtype=torch.float64) * 2 + 1
    batches = torch.split(images.float(), 4)  # 4, 4 and 2 images
    assert estimate_statistics(norm, batches, norm) == 3
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean.double(), images.mean((0, 2, 3)))
    variances = [b.var((0, 2, 3), unbiased=True) * len(b) / 10 for b in torch.split(images, 4)]
    torch.testing.assert_close(norm.running_var.double(), torch.stack(variances).sum(0))
    assert norm.num_batches_tracked == 3
    assert norm.momentum == 0.3


def test_equal_batches_give_what_torch_estimates() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)
    )
    batches = torch.split(torch.randn(12, 3, 7, 7), 4)
    estimate_statistics(net, batches, net)
    ours = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.optim.swa_utils.update_bn(batches, net)
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, msg=name)


def test_only_batch_norm_is_in_training_mode() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    net = nn.Sequential(nn.Dropout(0.5), norm).train()
    norm.eval()
    weights = norm.weight.clone()
    images = torch.randn(6, 3, 2, 2)
    estimate_statistics(net, [images], net)
    torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))
    assert net[0].training
    assert not norm.training
    assert torch.equal(norm.weight, weights)
    assert not norm._forward_pre_hooks


def test_sources_are_counted_apart() -> None:
    norm = PerSource(1)
    first, second = torch.full((2, 1, 1, 1), 4.0), torch.full((2, 1, 1, 1), 8.0)
    momenta: list[float | None] = []

    def forward(batch: tuple[str, Tensor]) -> None:
        norm.source, images = batch
        norm(images)
        momenta.append(norm.momentum)

    estimate_statistics(norm, [("a", first), ("b", second), ("a", first)], forward)
    assert momenta == [1.0, 1.0, 0.5]


def test_without_batch_norm_nothing_is_read() -> None:
    assert estimate_statistics(nn.Linear(2, 2), iter([1]), lambda _: 1 / 0) == 0


def test_without_batches_there_is_nothing_to_estimate() -> None:
    norm = nn.BatchNorm2d(3)
    with pytest.raises(ValueError, match="No training images"):
        estimate_statistics(norm, [], norm)


def test_a_soup_of_errors_takes_the_lower_ones() -> None:
    errors = {(0,): 0.5, (1,): 0.3, (2,): 0.4, (1, 2): 0.2, (0, 1, 2): 0.25}
    soup = greedy_soup(3, lambda members: errors[tuple(sorted(members))], higher_is_better=False)
    assert (soup.members, soup.accuracy) == ((1, 2), 0.2)
