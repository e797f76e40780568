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

    Up to :data:`MOST_EXACT` tasks by branch and bound, above by moves and swaps from random starts.

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
    groups = _branch_and_bound(table, count) if exact else _restarts(table, count, seed)
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


def _branch_and_bound(table: list[list[float]], count: int) -> Partition:
    """Assign tasks one after the other; leave branches that cannot beat the best."""
    tasks = len(table)
    best: list[Partition] = [_restarts(table, count, 0, 4)]
    most = [sum(_group(table, group) for group in best[0])]
    groups: list[list[int]] = []

    def bound(task: int, placed: Sequence[int], free: range) -> float:
        """Return the largest mean incoming affinity that a task may still get."""
        incoming = [table[i][task] for i in placed if i != task]
        total, size = sum(incoming), len(incoming)
        top = total / size if size else (0.0 if count > 1 or tasks == 1 else -math.inf)
        for value in sorted((table[i][task] for i in free if i != task), reverse=True):
            total, size = total + value, size + 1
            top = max(top, total / size)
        return top

    def search(task: int) -> None:
        free = range(task, tasks)
        limit = sum(bound(j, group, free) for group in groups for j in group)
        # a task that is not placed yet may join any of the groups
        limit += sum(
            max(bound(j, group, free) for group in (*groups, ())) for j in range(task, tasks)
        )
        if limit <= most[0] + 1e-12 or len(groups) + tasks - task < count:
            return
        if task == tasks:
            value = sum(_group(table, tuple(group)) for group in groups)
            if value > most[0]:
                most[0], best[0] = value, tuple(map(tuple, groups))
            return
        for group in groups:
            group.append(task)
            search(task + 1)
            group.pop()
        if len(groups) < count:
            groups.append([task])
            search(task + 1)
            groups.pop()

    search(0)
    return best[0]


def _restarts(
    table: list[list[float]], count: int, seed: int, restarts: int = _RESTARTS
) -> Partition:
    """Improve random partitions by moves and swaps until none helps; return the best."""
    generator = torch.Generator().manual_seed(seed)
    best: Partition = ()
    most = -math.inf
    for _ in range(restarts):
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
