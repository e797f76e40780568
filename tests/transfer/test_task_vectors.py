from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tl.transfer.task_vectors import task_arithmetic, ties, trim


def state(*numbers: float) -> dict[str, Tensor]:
    half = len(numbers) // 2
    return {"a": torch.tensor(numbers[:half]), "b.weight": torch.tensor(numbers[half:])}


def flat(found: dict[str, Tensor]) -> list[float]:
    return torch.cat([*found.values()]).tolist()


SOURCE = state(1.0, 1.0, 1.0, 1.0)
# task vectors (1, -2, .5, 0) and (3, 4, -.1, 0)
TUNED = [state(2.0, -1.0, 1.5, 1.0), state(4.0, 5.0, 0.9, 1.0)]


def test_task_vectors_are_added() -> None:
    assert flat(task_arithmetic(SOURCE, TUNED, 0.5)) == pytest.approx([3.0, 2.0, 1.2, 1.0])
    assert flat(task_arithmetic(SOURCE, TUNED, 0)) == flat(SOURCE)
    assert flat(task_arithmetic(SOURCE, TUNED[:1], 1)) == flat(TUNED[0])


def test_ties_trims_elects_signs_and_takes_the_mean_of_those_that_agree() -> None:
    # all kept: signs of the sums are +, +, +; the means of those that agree 2, 4, .5
    assert flat(ties(SOURCE, TUNED, 1, keep=1)) == pytest.approx([3.0, 5.0, 1.5, 1.0])
    # half kept: (1, -2, 0, 0) and (3, 4, 0, 0)
    assert flat(ties(SOURCE, TUNED, 1, keep=0.5)) == pytest.approx([3.0, 5.0, 1.0, 1.0])
    # a quarter kept: (0, -2, 0, 0) and (0, 4, 0, 0): the mean of 4 alone, not of both
    assert flat(ties(SOURCE, TUNED, 0.5, keep=0.25)) == pytest.approx([1.0, 3.0, 1.0, 1.0])


def test_one_network_whole_is_itself() -> None:
    assert flat(ties(SOURCE, TUNED[:1], 1, keep=1)) == flat(TUNED[0])


def test_trimming_is_over_the_whole_vector() -> None:
    found = trim({"a": torch.tensor([0.1, 0.2]), "b": torch.tensor([-9.0, 8.0])}, 0.5)
    assert flat(found) == [0.0, 0.0, -9.0, 8.0]


def test_statistics_are_averaged_and_counters_kept() -> None:
    source = {"norm.running_mean": torch.tensor([0.0]), "norm.num_batches_tracked": torch.tensor(7)}
    tuned = [{**source, "norm.running_mean": torch.tensor([value])} for value in (2.0, 4.0)]
    source["w"] = torch.ones(1)
    for each in tuned:
        each["w"] = torch.ones(1)
    found = task_arithmetic(source, tuned, 5.0)
    assert float(found["norm.running_mean"]) == 3
    assert int(found["norm.num_batches_tracked"]) == 7


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(ValueError, match="Nothing to merge"):
        task_arithmetic(SOURCE, [], 1)
    with pytest.raises(ValueError, match="same architecture"):
        ties(SOURCE, [{"a": torch.zeros(2)}])
    with pytest.raises(ValueError, match=r"`keep` must be above 0 and at most 1, got 0"):
        ties(SOURCE, TUNED, keep=0)
