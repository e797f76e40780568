"""The BiT HyperRule: a fine-tuning schedule without hyperparameters."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# steps of the end of warm-up, of three drops, and of the end, by size of the data
_RULES = {
    20_000: (100, 200, 300, 400, 500),
    500_000: (500, 3_000, 6_000, 9_000, 10_000),
    None: (500, 6_000, 12_000, 18_000, 20_000),
}


def hyper_rule_steps(images: int) -> int:
    """Return the steps of a run for so many labelled images (Kolesnikov et al., 2020, section 3.3).

    500 steps for fewer than 20,000 images, 10,000 for fewer than 500,000, else 20,000.

    Args:
        images: Labelled images of the target, 1 or more.

    Raises:
        ValueError: If `images` is below 1.
    """
    if images < 1:
        raise ValueError(f"`images` must be 1 or more, got {images}.")
    limit = next((limit for limit in _RULES if limit is not None and images < limit), None)
    return _RULES[limit][-1]


class BiTHyperRule(LambdaLR):
    """Warm up linearly, then divide the learning rate by 10 three times.

    The schedule of Big Transfer's HyperRule (Kolesnikov et al., 2020, arXiv:1912.11370, section
    3.3), with the steps of the authors' code: a run of 500 steps warms up over 100 and drops at
    200, 300 and 400; one of 10,000 or 20,000 warms up over 500 and drops at 30, 60 and 90 %, which
    the paper gives for all. A run of another length, which the rule does not cover, uses the
    proportions of the next longer one.

    Use it with SGD at a learning rate of 0.003 for 512 images a step, momentum 0.9, no weight
    decay, and the steps of :func:`hyper_rule_steps`. Differences: the warm-up starts above 0 and
    each step of the authors' table comes one earlier, as in all schedules of torch; MixUp (theirs
    from 20,000 images on), larger images and a zero-initialised head are not part of the schedule.

    Args:
        optimizer: The optimizer.
        total_steps: Optimizer steps of the whole run; filled in from the Trainer.

    Raises:
        ValueError: If `total_steps` is not positive.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None) -> None:
        if total_steps is None or total_steps < 1:
            raise ValueError(f"`total_steps` must be 1 or more, got {total_steps}.")
        rule = next((r for r in _RULES.values() if total_steps <= r[-1]), _RULES[None])
        warmup, *drops = (step * total_steps / rule[-1] for step in rule[:-1])

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / max(1.0, warmup)
            return float(0.1 ** sum(step >= drop for drop in drops))

        super().__init__(optimizer, factor)
