from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
import torch

from tl.questions.grouping import best_grouping, random_partition, value_of


def partitions(tasks: int, count: int) -> Iterator[list[list[int]]]:
    """All of them, by restricted growth."""

    def grow(task: int, groups: list[list[int]]) -> Iterator[list[list[int]]]:
        if task == tasks:
            if len(groups) == count:
                yield [list(group) for group in groups]
            return
        for group in groups:
            group.append(task)
            yield from grow(task + 1, groups)
            group.pop()
        yield from grow(task + 1, [*groups, [task]])

    yield from grow(0, [])


def affinities(tasks: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(tasks, tasks, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("count", [1, 2, 3, 6])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_six_tasks_is_that_of_brute_force(count: int, shift: float, seed: int) -> None:
    given = affinities(6, seed, shift)
    found = best_grouping(given, count)
    best = max(value_of(given, each) for each in partitions(6, count))
    assert found.exact
    assert found.value == pytest.approx(best)
    assert sorted(task for group in found.groups for task in group) == list(range(6))
    assert len(found.groups) == count


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_best_of_seven_tasks_is_that_of_brute_force(count: int) -> None:
    for given in (affinities(7, 0), affinities(7, 1, -3.0), torch.rand(7, 7) - 5):
        best = max(value_of(given, each) for each in partitions(7, count))
        assert best_grouping(given, count).value == pytest.approx(best)


def test_the_best_of_twelve_tasks_with_nearly_equal_affinities() -> None:
    given = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)).double() - 5
    found = best_grouping(given, 4)
    assert found.exact
    assert sorted(len(group) for group in found.groups) == [1, 1, 1, 9]  # alone, a task has 0
    alone = [task for group in found.groups if len(group) == 1 for task in group]
    others = [
        [[a], [b], [c], [t for t in range(12) if t not in (a, b, c)]]
        for a, b, c in combinations(range(12), 3)
    ]
    best = max(others, key=lambda each: value_of(given, each))
    assert sorted(task for [task] in best[:3]) == sorted(alone)


@pytest.mark.parametrize("scale", [1e-14, 1e-9, 1e9])
def test_affinities_of_any_size_are_grouped_alike(scale: float) -> None:
    for seed in range(4):
        given = affinities(7, seed).double()
        assert best_grouping(scale * given, 3).groups == best_grouping(given, 3).groups
    assert best_grouping(torch.zeros(4, 4), 2).value == 0
    many = affinities(14, 0).double()
    assert best_grouping(scale * many, 4).groups == best_grouping(many, 4).groups


def test_twelve_tasks_are_exact_and_more_are_not() -> None:
    found = best_grouping(affinities(12, 0), 4)
    assert found.exact
    assert found.value >= found.band[1]
    blocks = torch.full((15, 15), -1.0)
    for start in range(0, 15, 5):
        blocks[start : start + 5, start : start + 5] = 1
    many = best_grouping(blocks, 3)
    assert not many.exact
    assert many.groups == (tuple(range(5)), tuple(range(5, 10)), tuple(range(10, 15)))
    assert many.value == pytest.approx(1)
    assert many.together < 0
    assert many.band[0] < many.band[1] < 1


def test_a_task_that_only_disturbs_is_left_alone() -> None:
    given = torch.full((4, 4), 0.5)
    given[3, :3], given[:3, 3] = 0.01, -0.01
    assert best_grouping(given, 2).groups == ((0, 1, 2), (3,))


def test_random_partitions_have_no_empty_group() -> None:
    drawn = torch.Generator().manual_seed(0)
    for _ in range(50):
        groups = random_partition(7, 5, drawn)
        assert len(groups) == 5
        assert sorted(task for group in groups for task in group) == list(range(7))


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="6 tasks cannot be divided into 7 groups; choose 1 to 6"):
        best_grouping(affinities(6, 0), 7)
    missing = affinities(3, 0)
    missing[0, 1] = torch.nan
    with pytest.raises(ValueError, match="Some affinities were never measured"):
        best_grouping(missing, 2)
