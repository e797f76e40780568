"""Whether a metric is better at its minimum or maximum, by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from tl.tasks import Direction, score_directions

_OF_CALLBACKS: dict[str, Direction] = {"knn_acc": "max"}  # no task's score
_WORDS = {"min": "lower", "max": "higher"}


def direction_of(metric: str) -> Direction | None:
    """Return the direction in which a metric of this framework improves.

    Args:
        metric: Its name, such as ``val/acc`` or ``val/cifar10/loss``; the suffix that Lightning
            adds for several loaders is ignored.

    Returns:
        ``max`` or ``min``; ``None`` for an unknown metric.
    """
    plain = re.sub(r"/dataloader_idx_\d+$", "", metric)
    score = plain.rpartition("/")[2]
    return score_directions().get(score) or _OF_CALLBACKS.get(score)


def refuse_oracle(metric: str, who: str) -> None:
    """Refuse to choose by a score that is computed from labels that training withholds.

    Args:
        metric: Its name.
        who: What chooses by it, for the message.

    Raises:
        ValueError: If it is an oracle's.
    """
    last = metric.rpartition("/")[2]
    if last == "oracle" or last.startswith("oracle_"):
        raise ValueError(
            f"{who} cannot monitor `{metric}`: it is computed from labels that training withholds "
            "(`labels: none`); choose by a labelled source, as `val/loss` does."
        )


def check_direction(metric: str, mode: str | None, who: str) -> Direction:
    """Return the direction in which a metric is monitored.

    Args:
        metric: Its name.
        mode: ``min`` or ``max`` if one was set.
        who: What monitors it, for messages.

    Raises:
        ValueError: If the metric is known to improve the other way, if it is unknown and no
            direction was set, or if it is an oracle's.
    """
    refuse_oracle(metric, who)
    known = direction_of(metric)
    if mode is None and known is None:
        raise ValueError(
            f"{who} cannot know which way `{metric}` improves; set `mode` to min or max."
        )
    if mode not in (None, "min", "max"):
        raise ValueError(f"The `mode` of {who} must be min or max, got {mode!r}.")
    if known is not None and mode not in (None, known):
        raise ValueError(
            f"{who} monitors `{metric}` with mode={mode!r}, but it is better when "
            f"{_WORDS[known]}; set `mode: {known}`."
        )
    return known or ("min" if mode == "min" else "max")


def follow_metrics(full: Any, given: Any) -> None:  # noqa: ANN401 - any node of a configuration
    """Set each missing `mode` in a configuration to the direction of the monitored metric.

    Lightning's classes, such as `EarlyStopping`, default to ``min`` whatever the metric.

    Args:
        full: The configuration with all defaults; changed in place.
        given: The same without defaults.

    Raises:
        ValueError: If `mode` is missing for a metric whose direction is unknown.
    """
    if isinstance(full, list):
        for each, own in zip(full, given if isinstance(given, list) else [], strict=False):
            follow_metrics(each, own)
    below = _children(full)
    own_below = _children(given)
    for key, child in below.items():
        follow_metrics(child, own_below.get(key))
    options, own = _children(below.get("init_args")), _children(own_below.get("init_args"))
    metric = options.get("monitor")
    if isinstance(metric, str) and "mode" in options and "mode" not in own:
        who = str(below.get("class_path")).rpartition(".")[2]
        full["init_args"]["mode"] = check_direction(metric, None, who)


def _children(node: object) -> Mapping[str, Any]:
    if isinstance(node, Namespace):
        return vars(node)
    return node if isinstance(node, Mapping) else {}
