"""LP-FT: a linear probe, then fine-tuning with its own schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tl.counting import counted
from tl.transfer.freezing import HEAD, BatchNormMode, Strategy


class LPFT(Strategy):
    """Train only the heads, then everything (Kumar et al., 2022, arXiv:2202.10054).

    A new, random head sends large gradients into pretrained features and distorts them (their
    section 3); a trained head does not. The authors fine-tune from a finished probe, with a
    separate learning rate and schedule: :class:`ProbeThenCosine` gives each part its own.

    Defaults that differ from the authors' code: the probe is trained by the run's optimizer for
    half of the run, while theirs is a logistic regression with the best of 100 L2 strengths by
    validation accuracy; batch norm trains, while theirs is in evaluation mode in both parts (as
    ``bn="frozen"``).

    Args:
        probe_epochs: Epochs of the first part, 1 or more; by default half of the run, rounded up.
            A resumed run keeps it, even if it is extended.
        backbone_lr: Learning rate of the backbone as a fraction of the head's, above 0. The authors
            use one learning rate for both.
        bn: As for every strategy.

    Raises:
        ValueError: If a number is out of range; at the start of the run, if it would end with the
            probe.
    """

    def __init__(
        self,
        probe_epochs: int | None = None,
        backbone_lr: float = 1.0,
        bn: BatchNormMode = "train",
    ) -> None:
        super().__init__(bn)
        if probe_epochs is not None and probe_epochs < 1:
            raise ValueError(f"`probe_epochs` must be 1 or more, got {probe_epochs}.")
        if backbone_lr <= 0:
            raise ValueError(f"`backbone_lr` must be positive, got {backbone_lr}.")
        self.probe_epochs = probe_epochs
        self.backbone_lr = backbone_lr
        self._epochs = probe_epochs or 1

    def begin(self, epochs: int | None, before: Sequence[int] = ()) -> None:
        """Set the length of the probe.

        Raises:
            ValueError: If nothing would be fine-tuned, or the length of the run is unknown.
        """
        length = self.probe_epochs or next(iter(before), None)
        if epochs is None and length is None:
            raise ValueError(
                "LPFT probes for half of the run by default, but its number of epochs is unknown; "
                "set "
                "`probe_epochs`, or `max_epochs`."
            )
        self._epochs = length or math.ceil((epochs or 1) / 2)
        if epochs is not None and epochs <= self._epochs:
            raise ValueError(
                f"LPFT probes for {counted(self._epochs, 'epoch')}, and the run has {epochs}: "
                "nothing would "
                "be fine-tuned. Raise `trainer.max_epochs` (or `max_steps`) or lower "
                "`probe_epochs`."
            )

    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        """Return the head; after the probe, everything."""
        return {HEAD} if epoch < self._epochs else set(stages)

    def changes(self, stages: Sequence[str]) -> list[int]:
        """Return the end of the probe."""
        return [self._epochs]

    def lr_scales(self, stages: Sequence[str]) -> dict[str, float]:
        """Return `backbone_lr` for all stages except the head."""
        return {stage: 1.0 if stage == HEAD else self.backbone_lr for stage in stages}


class ProbeThenCosine(LambdaLR):
    """Probe at a constant learning rate, then warm up and decay along half a cosine.

    With ``k`` steps of probe, ``lr(t) = base * probe_lr`` for ``t < k``; after that, with
    ``s = t - k`` and ``n = total - k``, ``base * fine_tune_lr * (s + 1) / w`` for ``s < w``, and
    ``base * fine_tune_lr * (1 + cos(pi * (s - w) / (n - w))) / 2``.

    Kumar et al., 2022, fine-tune along a cosine without warm-up, with one step per epoch, and
    search the peak; ``warmup=0`` disables it here. Their probe has no schedule: it is a logistic
    regression.

    Args:
        optimizer: The optimizer.
        total_steps: Optimizer steps of the whole run; filled in from the Trainer.
        probe_steps: Steps of the probe; filled in from the run's `LPFT`.
        probe_lr: Learning rate of the probe as a fraction of the optimizer's, above 0.
        fine_tune_lr: Peak of fine-tuning as a fraction of the optimizer's, above 0.
        warmup: Fraction of the fine-tuning steps used for warm-up, at least 0 and below 1.

    Raises:
        ValueError: If a number is out of range, or no step would be fine-tuned.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None = None,
        probe_steps: int | None = None,
        probe_lr: float = 1.0,
        fine_tune_lr: float = 1.0,
        warmup: float = 0.05,
    ) -> None:
        if total_steps is None or total_steps < 1:
            raise ValueError(f"`total_steps` must be 1 or more, got {total_steps}.")
        if probe_steps is None or probe_steps < 0:
            raise ValueError(
                f"`probe_steps` must be 0 or more, got {probe_steps}. It follows from the strategy "
                "LPFT; with another one set `scheduler`, such as tl.modules.WarmupCosine."
            )
        if probe_steps >= total_steps:
            raise ValueError(
                f"LPFT probes for {counted(probe_steps, 'step')}, and the run has {total_steps}: "
                "nothing "
                "would be fine-tuned. Make the run longer or lower `probe_epochs`."
            )
        for name, value in (("probe_lr", probe_lr), ("fine_tune_lr", fine_tune_lr)):
            if value <= 0:
                raise ValueError(f"`{name}` must be positive, got {value}.")
        if not 0 <= warmup < 1:
            raise ValueError(f"`warmup` must be at least 0 and below 1, got {warmup}.")
        rest = total_steps - probe_steps
        rise = round(rest * warmup)

        def factor(step: int) -> float:
            if step < probe_steps:
                return probe_lr
            step -= probe_steps
            if step < rise:
                return fine_tune_lr * (step + 1) / rise
            progress = min(1.0, (step - rise) / max(1, rest - rise))
            return fine_tune_lr * (1 + math.cos(math.pi * progress)) / 2

        super().__init__(optimizer, factor)
