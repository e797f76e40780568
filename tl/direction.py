"""Which way a metric is better, told from its name."""

from __future__ import annotations

import re
from typing import Literal

Direction = Literal["min", "max"]
_KNOWN: dict[str, Direction] = {"acc": "max", "loss": "min"}
_WORDS = {"min": "lower", "max": "higher"}


def direction_of(metric: str) -> Direction | None:
    """Return the direction in which a metric of this framework improves.

    Args:
        metric: Its name, such as ``val/acc`` or ``val/cifar10/loss``; the suffix that Lightning
            gives to several loaders is left out.

    Returns:
        ``max`` or ``min``; ``None`` for a metric of another name.
    """
    plain = re.sub(r"/dataloader_idx_\d+$", "", metric)
    return _KNOWN.get(plain.rpartition("/")[2])


def check_direction(metric: str, mode: str | None, who: str) -> Direction:
    """Return the direction in which a metric is followed.

    Args:
        metric: Its name.
        mode: ``min`` or ``max`` where one was given.
        who: What follows it, for messages.

    Raises:
        ValueError: If the metric is known to improve the other way, or if it is unknown and no
            direction was given.
    """
    known = direction_of(metric)
    if mode is None and known is None:
        raise ValueError(
            f"{who} cannot know which way `{metric}` improves; set `mode` to min or max."
        )
    if mode not in (None, "min", "max"):
        raise ValueError(f"The `mode` of {who} must be min or max, got {mode!r}.")
    if known is not None and mode not in (None, known):
        raise ValueError(
            f"{who} follows `{metric}` with mode={mode!r}, but it is better when "
            f"{_WORDS[known]}; set `mode: {known}`."
        )
    return known or ("min" if mode == "min" else "max")
