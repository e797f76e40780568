"""Batches that are episodes: some classes, and equally many samples of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from tl.data.errors import DataError
from tl.data.images.resident import mixed_seed
from tl.data.loaders import EpochSampler


class EpisodeSampler(EpochSampler):
    """Episodes as a pure function of (seed, epoch, step, rank).

    Each batch holds `ways` random classes, and so many different samples of each, class after
    class.

    Args:
        labels: Classes ``(N,)`` int64.
        ways: Classes in an episode.
        each: Samples of each class.
        owner: Name of the source, for messages.
        options: Those of :class:`~tl.data.loaders.EpochSampler`; `steps_per_epoch` is the number of
            episodes.

    Raises:
        DataError: If there are too few classes, or samples of one.
    """

    def __init__(
        self,
        labels: Tensor,
        *,
        ways: int,
        each: int,
        owner: str,
        **options: Any,  # noqa: ANN401 - those of the base
    ) -> None:
        super().__init__(labels, batch_size=ways * each, **options)  # type: ignore[arg-type]
        self.ways, self.each = ways, each
        self.members = [(labels == n).nonzero().flatten() for n in torch.unique(labels).tolist()]
        fewest = min(map(len, self.members), default=0)
        if len(self.members) < ways or fewest < each:
            raise DataError(
                f"{owner}: an episode of {ways} classes with {each} samples of each needs as many, "
                f"and there are {len(self.members)} classes, the smallest with {fewest} samples; "
                "set fewer `ways`, `shots` or `queries`, or give more images."
            )

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the positions of each episode ``(ways * each,)`` int64."""
        step = 0
        if self.position is not None:
            self.epoch, step = self.position()
        for number in range(step, len(self)):
            yield self.episode(self.epoch, number).to(self.device)

    def episode(self, epoch: int, step: int) -> Tensor:
        """Return the positions of this rank's episode ``(ways * each,)`` int64."""
        seed = mixed_seed("episode", self.seed, epoch, step, self.rank)
        generator = torch.Generator().manual_seed(seed)
        chosen: Sequence[int] = torch.randperm(len(self.members), generator=generator).tolist()
        found = []
        for number in chosen[: self.ways]:
            rows = self.members[number]
            found.append(rows[torch.randperm(len(rows), generator=generator)[: self.each]])
        return torch.cat(found)


class FixedEpisodes(EpisodeSampler, SequentialSampler):  # type: ignore[misc]  # as InOrderSampler
    """The same episodes in every epoch: for evaluation, and for `overfit_batches`."""

    def episode(self, epoch: int, step: int) -> Tensor:
        """Return the positions of an episode ``(ways * each,)`` int64, whatever the epoch."""
        del epoch
        return super().episode(0, step)
