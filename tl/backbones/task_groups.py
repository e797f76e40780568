"""A network for each group of tasks: tasks share within a group only."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from tl.backbones.streams import StreamsBackbone


class TaskGroups(StreamsBackbone):
    """A network for each group of tasks, which nothing joins.

    With the tasks in one group it is the network itself, with each task alone a network per task.
    ``tl group`` finds groups, and writes a study that compares them by this backbone: the runs
    differ in who shares, and in nothing else. All networks start as copies of the one given, or of
    its weights from ``init_from``. Batch norm of each network sees all images of a batch.

    Args:
        backbone: One of our ResNets.
        groups: The tasks of each group, by name; each task is in one group.

    Raises:
        ValueError: If the network is another one, a group is empty or a task is named twice; when
            the tasks are known, if they are not those in the groups.
    """

    def __init__(self, backbone: nn.Module, groups: Sequence[Sequence[str]]) -> None:
        super().__init__(backbone)
        self.groups = tuple(tuple(group) for group in groups)
        names = [name for group in self.groups for name in group]
        if not all(self.groups) or not names or len(set(names)) < len(names):
            raise ValueError(
                "`groups` must be lists of tasks, each task in one group, got "
                f"{[list(group) for group in self.groups]}."
            )
        self.network = nn.ModuleList(
            [backbone, *(copy.deepcopy(backbone) for _ in self.groups[1:])]
        )

    def _build(self, tasks: Sequence[str]) -> None:
        names = [name for group in self.groups for name in group]
        if set(names) != set(tasks):
            raise ValueError(
                f"`groups` hold the tasks {', '.join(names)}, and the run trains "
                f"{', '.join(tasks)}; put each of them in one group."
            )

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the first group's network."""
        return self.networks()[0].maps(images)

    def streams(
        self, images: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Return the first computed network's vector, and each task's maps of its own network."""
        self._check_named()
        found: dict[str, list[Tensor]] = {}
        for network, group in zip(self.networks(), self.groups, strict=True):
            wanted = [task for task in group if task in tasks]
            if wanted:
                found |= dict.fromkeys(wanted, network.maps(images))
        return self.pool(next(iter(found.values()))), found
