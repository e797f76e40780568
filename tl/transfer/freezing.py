"""What trains when: strategies that are pure functions of the epoch.

A strategy has no state except the run's length, set by `Strategy.begin` and restored on resume. For
a given epoch it always gives the same answer, so a resumed run freezes what the uninterrupted run
froze.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from torch import nn
from torch.utils.hooks import RemovableHandle

BatchNormMode = Literal["frozen", "adapt_stats", "train"]
HEAD = "head"


class Strategy(ABC):
    """Defines which stages train in an epoch, and at which fraction of the learning rate.

    Stages are the backbone's, from the stem to the top, and then ``head`` for all heads.

    Args:
        bn: Batch norm in training. ``train``: follows its stage, so that a frozen stage keeps its
            statistics, bit for bit. ``frozen``: normalises by the initial statistics everywhere;
            scale and shift still train with their stage. ``adapt_stats``: statistics follow the
            target everywhere, even in frozen stages (as in domain adaptation by Li et al., 2018,
            "Adaptive Batch Normalization"). This helps if the target looks different, and degrades
            the network on the source.

    Raises:
        ValueError: If `bn` is not one of these.
    """

    def __init__(self, bn: BatchNormMode = "train") -> None:
        if bn not in get_args(BatchNormMode):
            raise ValueError(f"`bn` must be one of {', '.join(get_args(BatchNormMode))}, got {bn}.")
        self.bn: BatchNormMode = bn

    @abstractmethod
    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        """Return the names of the stages that train.

        Args:
            epoch: The epoch, 0 or more.
            stages: All stages from the stem to the top, ``head`` last.
        """

    def changes(self, stages: Sequence[str]) -> list[int]:
        """Epochs, ascending, at which the set of trainable stages changes."""
        return []

    def lr_scales(self, stages: Sequence[str]) -> dict[str, float]:
        """Fraction of the optimizer's learning rate by stage, above 0."""
        return dict.fromkeys(stages, 1.0)

    def left_out(self, stages: Mapping[str, Sequence[nn.Module]]) -> list[nn.Parameter]:
        """Return parameters that never train, even in stages that do."""
        return []

    def hooks(self, backbone: nn.Module) -> list[RemovableHandle]:
        """Register what changes the backbone's forward pass while a run trains.

        Returns:
            Handles, which the end of the run removes.
        """
        return []

    def check(self, stages: Sequence[str]) -> None:
        """Refuse a network that lacks a named stage; called when a module is built.

        Raises:
            ValueError: If the backbone lacks a stage that the strategy names (lists the available
                ones), or a learning-rate fraction is not above 0.
        """
        scales = self.lr_scales(stages)
        named = {*scales}.union(*(self.trainable(e, stages) for e in [0, *self.changes(stages)]))
        if missing := sorted(named - set(stages)):
            raise ValueError(
                f"{type(self).__name__} names the stage {missing[0]!r}, which the backbone lacks; "
                f"its stages are {', '.join(stages)}."
            )
        if wrong := [f"{stage} {scale}" for stage, scale in scales.items() if not scale > 0]:
            raise ValueError(
                f"{type(self).__name__} gives learning-rate fractions that are not above 0: "
                f"{', '.join(wrong)}; leave out of `trainable` what should not train."
            )

    def begin(  # noqa: B027 - most do not depend on it
        self, epochs: int | None, before: Sequence[int] = ()
    ) -> None:
        """Receive the length of the run before it starts, for strategies that depend on it.

        Args:
            epochs: Epochs of the run, including a partial last one; ``None`` if only time limits
                it.
            before: In a resumed run, the earlier :meth:`changes`; otherwise empty.

        Raises:
            ValueError: If the run is too short for the strategy.
        """

    def first_epochs(self, stages: Sequence[str]) -> dict[str, int | None]:
        """First epoch in which each stage trains; ``None`` if it never does."""
        epochs = [0, *self.changes(stages)]
        trained = {epoch: self.trainable(epoch, stages) for epoch in epochs}
        return {
            stage: next((epoch for epoch in epochs if stage in trained[epoch]), None)
            for stage in stages
        }


class FullFineTuning(Strategy):
    """Train everything from the first epoch on."""

    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        """All stages."""
        return set(stages)


class LinearProbe(Strategy):
    """Train only the heads, on fixed features (Alain & Bengio, 2016)."""

    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        """The head."""
        return {HEAD}


class GradualUnfreezing(Strategy):
    """Unfreeze from the top: the head first, then one more stage at a time.

    With discriminative learning rates ``lr[l - 1] = lr[l] / 2.6`` (Howard & Ruder, 2018,
    arXiv:1801.06146, sections 3.2 and 3.3, where each stage joins after one epoch): both defaults
    are the paper's, for the layers of an LSTM; here a stage is a layer.

    Args:
        epochs_per_stage: Epochs between unfreezing two stages, 1 or more.
        factor: Learning rate of a stage over that of the stage below it, 1 or more; 1 gives all the
            same rate.
        bn: As for every strategy.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, epochs_per_stage: int = 1, factor: float = 2.6, bn: BatchNormMode = "train"
    ) -> None:
        super().__init__(bn)
        if epochs_per_stage < 1:
            raise ValueError(f"`epochs_per_stage` must be 1 or more, got {epochs_per_stage}.")
        if factor < 1:
            raise ValueError(f"`factor` must be 1 or more, got {factor}.")
        self.epochs_per_stage = epochs_per_stage
        self.factor = factor

    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        """Return the head and the ``epoch // epochs_per_stage`` topmost stages."""
        return set(stages[-1 - epoch // self.epochs_per_stage :]) if epoch >= 0 else set()

    def changes(self, stages: Sequence[str]) -> list[int]:
        """Return one epoch per stage of the backbone."""
        return [number * self.epochs_per_stage for number in range(1, len(stages))]

    def lr_scales(self, stages: Sequence[str]) -> dict[str, float]:
        """Return ``factor ** -depth``, the head at depth 0."""
        return {stage: self.factor**-depth for depth, stage in enumerate(reversed(stages))}


class LayerWiseDecay(FullFineTuning):
    """Train everything, each stage slower than the one above it.

    ``lr[l] = lr * decay ** (L - l)`` (Clark et al., 2020, ELECTRA, arXiv:2003.10555, and, for
    images, Bao et al., 2022, BEiT, arXiv:2106.08254), the head at ``lr``. Those papers count the
    layers of transformers; here a stage is a layer.

    Args:
        decay: Learning rate of a stage over that of the stage above, above 0 and at most 1. The
            default is that of He et al., 2022 (MAE, arXiv:2111.06377, table 9), whose code has
            0.65 for ViT-Base. Their networks have many more layers than there are stages here, so
            the lowest stage here trains faster than their lowest layer.
        bn: As for every strategy.

    Raises:
        ValueError: If `decay` is out of range.
    """

    def __init__(self, decay: float = 0.75, bn: BatchNormMode = "train") -> None:
        super().__init__(bn)
        if not 0 < decay <= 1:
            raise ValueError(f"`decay` must be above 0 and at most 1, got {decay}.")
        self.decay = decay

    def lr_scales(self, stages: Sequence[str]) -> dict[str, float]:
        """Return ``decay ** depth``, the head at depth 0."""
        return {stage: self.decay**depth for depth, stage in enumerate(reversed(stages))}


class SurgicalFineTuning(Strategy):
    """Train only the named stages, throughout (Lee et al., 2023, arXiv:2210.11466).

    The paper trains the first block for shifts in appearance (noise, blur), a middle one for shifts
    within classes, the last one for shifts in the labels. It keeps the source's head; a new head
    must be among the stages, or it stays random.

    Args:
        stages: Names of the stages that train, at least one; the backbone's, or ``head``.
        bn: As for every strategy.

    Raises:
        ValueError: If no stage is named.
    """

    def __init__(self, stages: Sequence[str], bn: BatchNormMode = "train") -> None:
        super().__init__(bn)
        if isinstance(stages, str) or not stages:
            raise ValueError(f"`stages` must be a list of at least one stage, got {stages!r}.")
        self.stages = tuple(stages)

    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        """Return the named stages."""
        return set(self.stages)


def __getattr__(name: str) -> object:
    """Resolve `LPFT` for configurations of version 0.1.0."""
    if name == "LPFT":
        from tl.transfer.lp_ft import LPFT  # noqa: PLC0415 - which imports this module

        return LPFT
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
