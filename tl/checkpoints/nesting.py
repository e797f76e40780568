"""The size of a structure of plain types when every shared reference is followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

MOST_VALUES = 5_000_000
_DEEPEST = 200


def check_nesting(value: object, most: int = MOST_VALUES) -> None:
    """Refuse a structure that cannot be traversed in reasonable time.

    Twenty lists that each hold the previous one ten times take a kilobyte in a file and 10^20 steps
    to traverse; a list that contains itself never ends.

    Args:
        value: Mappings, lists and tuples of anything; anything else counts as one value.
        most: Maximum number of values, each counted as often as it is reached.

    Raises:
        ValueError: If there are more values, or the nesting is too deep.
    """
    count = 1
    stack: list[Iterator[object]] = [_inside(value)]
    while stack:
        inner = next(stack[-1], stack)
        if inner is stack:
            stack.pop()
            continue
        count += 1
        if count > most:
            raise ValueError(f"it unfolds to more than {most:,} values through shared references")
        if isinstance(inner, Mapping | list | tuple):
            stack.append(_inside(inner))
        if len(stack) > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} levels deep, or contains itself")


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        return iter(value.values())
    return iter(value) if isinstance(value, list | tuple) else iter(())
