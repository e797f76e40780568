"""Which tasks to train together: the partition of the largest mean affinity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Tasks up to which the best partition is found exactly.
MOST_EXACT = 12
_RESTARTS = 60
_RANDOM = 1000

Partition = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Grouping:
    """A partition of tasks, and what it is worth.

    Args:
        groups: Tasks by group, by number.
        value: Its value, see :func:`value_of`.
        exact: Whether no partition has a larger one.
        together: Value of all tasks in one group.
        band: Interval that 95 % of random partitions have.
        own: Fraction of random partitions that are this one; above 0.025 it is the band's end.
    """

    groups: Partition
    value: float
    exact: bool
    together: float
    band: tuple[float, float]
    own: float = 0.0

    alone = 0.0  # value of each task alone


def value_of(affinity: Tensor, groups: Sequence[Sequence[int]]) -> float:
    """Return the mean over tasks of the mean affinity from the others of its group to it.

    A task alone has 0: nobody helps it or harms it.

    Args:
        affinity: ``(T, T)``, row i to column j.
        groups: A partition of the tasks.
    """
    table = affinity.tolist()
    return sum(_group(table, tuple(group)) for group in groups) / len(table)


def _group(table: list[list[float]], group: tuple[int, ...]) -> float:
    """Return the sum over the tasks of a group of their mean incoming affinity."""
    if len(group) == 1:
        return 0.0
    total = sum(table[i][j] for j in group for i in group if i != j)
    return total / (len(group) - 1)


def best_grouping(affinity: Tensor, count: int, seed: int = 0) -> Grouping:
    """Return the partition of the largest value.

    Up to :data:`MOST_EXACT` tasks by dynamic programming, above by moves and swaps from random
    starts.

    Args:
        affinity: ``(T, T)``, row i to column j; the diagonal is not used.
        count: Number of groups; none is empty.
        seed: Of random starts, and of the band.

    Raises:
        ValueError: If there are more groups than tasks, fewer than one, or affinities are missing.
    """
    tasks = len(affinity)
    if not 1 <= count <= tasks:
        raise ValueError(
            f"{tasks} tasks cannot be divided into {count} groups; choose 1 to {tasks}."
        )
    apart = affinity[~torch.eye(tasks, dtype=torch.bool)]
    if not bool(apart.isfinite().all()):
        raise ValueError(
            "Some affinities were never measured: a task had no loss or gradient. Measure for "
            "longer."
        )
    scale = float(apart.abs().max()) if tasks > 1 else 0.0  # steps may be of any size
    table = (affinity.double() / (scale or 1.0)).tolist()
    exact = tasks <= MOST_EXACT
    groups = _best_of_all(table, count) if exact else _restarts(table, count, seed)
    generator = torch.Generator().manual_seed(seed)
    drawn = [random_partition(tasks, count, generator) for _ in range(_RANDOM)]
    values = torch.tensor([value_of(affinity, each) for each in drawn], dtype=torch.float64)
    low, high = (float(values.quantile(q)) for q in (0.025, 0.975))
    found = tuple(sorted(tuple(sorted(group)) for group in groups))
    return Grouping(
        found,
        value_of(affinity, found),
        exact,
        value_of(affinity, [range(tasks)]),
        (low, high),
        drawn.count(found) / _RANDOM,
    )


def random_partition(tasks: int, count: int, generator: torch.Generator) -> Partition:
    """Return a random partition into so many groups: one task for each, the others anywhere."""
    order = torch.randperm(tasks, generator=generator).tolist()
    groups: list[list[int]] = [[task] for task in order[:count]]
    for task in order[count:]:
        groups[int(torch.randint(count, (), generator=generator))].append(task)
    return tuple(sorted(tuple(sorted(group)) for group in groups))


def _best_of_all(table: list[list[float]], count: int) -> Partition:
    """Return the best partition by dynamic programming over sets of tasks.

    The best partition of a set into n groups is the best choice of the group of its first task,
    with the best partition of the others into n - 1. With 12 tasks this takes less than a second,
    whatever the affinities are; a search by bounds prunes nothing where these are nearly equal.
    """
    tasks = len(table)
    worth = _worth_of_sets(table)
    # by set, as a bit mask: its value, and the group of its first task
    layers = [{members: (worth[members], members) for members in range(1, 1 << tasks)}]
    for number in range(2, count + 1):
        # with groups still to come, the first task of all is in one of these
        wanted = range(2, 1 << tasks, 2) if number < count else [(1 << tasks) - 1]
        layers.append({})
        for members in wanted:
            if members.bit_count() >= number:
                layers[-1][members] = max(
                    (worth[group] + layers[-2][members ^ group][0], group)
                    for group in _groups_of_the_first(members)
                    if (members ^ group).bit_count() >= number - 1
                )
    groups, left = [], (1 << tasks) - 1
    for layer in reversed(layers):
        group = layer[left][1]
        groups.append(tuple(task for task in range(tasks) if group >> task & 1))
        left ^= group
    return tuple(groups)


def _worth_of_sets(table: list[list[float]]) -> list[float]:
    """Return what :func:`_group` does of each set of tasks, by bit mask; 0 for the empty one."""
    tasks = len(table)
    totals = [0.0] * (1 << tasks)
    for members in range(1, 1 << tasks):
        first = (members & -members).bit_length() - 1
        others = members & (members - 1)
        joined = (table[first][j] + table[j][first] for j in range(tasks) if others >> j & 1)
        totals[members] = totals[others] + sum(joined)
    return [total / max(members.bit_count() - 1, 1) for members, total in enumerate(totals)]


def _groups_of_the_first(members: int) -> Iterator[int]:
    """Yield the subsets of a set that hold its first task, as bit masks."""
    first = members & -members
    others = subset = members ^ first
    while subset:
        yield first | subset
        subset = (subset - 1) & others
    yield first


def _restarts(table: list[list[float]], count: int, seed: int) -> Partition:
    """Improve random partitions by moves and swaps until none helps; return the best."""
    generator = torch.Generator().manual_seed(seed)
    best: Partition = ()
    most = -math.inf
    for _ in range(_RESTARTS):
        groups = [set(group) for group in random_partition(len(table), count, generator)]
        values = [_group(table, tuple(group)) for group in groups]
        while _improve(table, groups, values):
            pass
        if sum(values) > most + 1e-12:
            most, best = sum(values), tuple(map(tuple, groups))
    return best


def _improve(table: list[list[float]], groups: list[set[int]], values: list[float]) -> bool:
    """Take the best move or swap of two groups' tasks, if it helps."""
    best, chosen = 1e-12, None
    for a, b, out, into in _changes(groups):
        one = (groups[a] - out) | into
        other = (groups[b] - into) | out
        found = (_group(table, tuple(one)), _group(table, tuple(other)))
        if sum(found) - values[a] - values[b] > best:
            best, chosen = sum(found) - values[a] - values[b], (a, b, one, other, found)
    if chosen is None:
        return False
    a, b, groups[chosen[0]], groups[chosen[1]], (values[chosen[0]], values[chosen[1]]) = chosen
    return True


def _changes(groups: Sequence[set[int]]) -> Iterator[tuple[int, int, set[int], set[int]]]:
    """Yield two groups, and what leaves the first for the second and the other way round."""
    for a, one in enumerate(groups):
        for b, other in enumerate(groups):
            if a == b:
                continue
            for task in one:
                if len(one) > 1:
                    yield a, b, {task}, set()
                if a < b:
                    for swapped in other:
                        yield a, b, {task}, {swapped}
