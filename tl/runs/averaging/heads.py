"""The heads among a checkpoint's weights: by task, and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

#: Weights of one head, by their names within it.
Head = dict[str, Tensor]
_PREFIX = "heads."
_OWN_DECODERS = "tl.tasks.decoders."


def heads_of(weights: Mapping[str, Tensor]) -> dict[str, Head]:
    """Return the heads by task; ``heads.<task>.last.weight`` is ``last.weight`` of its task."""
    found: dict[str, Head] = {}
    for name, value in weights.items():
        if name.startswith(_PREFIX):
            task, _, within = name.removeprefix(_PREFIX).partition(".")
            found.setdefault(task, {})[within] = value
    return found


def named(heads: Mapping[str, Head]) -> dict[str, Tensor]:
    """Return the weights of heads under their names in a checkpoint."""
    return {
        f"{_PREFIX}{task}.{name}": value
        for task, head in heads.items()
        for name, value in head.items()
    }


def reordered(head: Head, rows: Sequence[int], decoder: str | None, what: str) -> Head:
    """Return a head with its classes in another order.

    A linear head has a row for each class; so has the layer ``last`` of our decoders.

    Args:
        head: The head.
        rows: The present row of each class.
        decoder: Class path of the decoder; ``None`` if the task has none.
        what: Name of the head, for the message.

    Raises:
        ValueError: If another layer, or an unknown one, has the rows of the classes.
    """
    last = "last." if decoder is not None and decoder.startswith(_OWN_DECODERS) else ""
    layer = {f"{last}{name}" for name in ("weight", "bias")} & head.keys()
    known = bool(layer) and (last or layer == head.keys())
    if not known or any(len(head[name]) != len(rows) for name in layer):
        raise ValueError(
            f"{what} has its classes in another order, and which of its layers has a row for each "
            "class is not known; train it on data that have the classes in the same order."
        )
    return {name: value[list(rows)] if name in layer else value for name, value in head.items()}
