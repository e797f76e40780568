"""Backbones with a stream of features for each task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from tl.backbones.base import Backbone
from tl.backbones.residual import ResidualBackbone


class StreamsBackbone(Backbone):
    """A residual network that gives each task maps and a vector of its own.

    The module that trains it names its tasks, with :meth:`name_tasks`; until then it has no
    streams. Tasks that share a head share its stream.

    Args:
        backbone: One of our residual networks.

    Attributes:
        network: The networks, if there are several.
        tasks: Names of the tasks; empty before they are known.
        num_features: Length of each task's vector.
        map_channels: Channels of each task's maps.

    Raises:
        ValueError: If it is another network.
    """

    network: nn.ModuleDict | nn.ModuleList

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        if not isinstance(backbone, ResidualBackbone):
            raise ValueError(  # noqa: TRY004 - an argument, as all others
                f"{type(self).__name__} is built over one of our residual networks, such as "
                f"tl.backbones.ResNet18, got {type(backbone).__name__}."
            )
        self.tasks: tuple[str, ...] = ()
        self.num_features = backbone.num_features
        self.map_channels = tuple(backbone.map_channels)

    def name_tasks(self, tasks: Sequence[str]) -> None:
        """Make a stream for each task; naming the same tasks again changes nothing.

        Raises:
            ValueError: If there is no task, or the streams are those of other tasks.
        """
        names = tuple(tasks)
        if not names:
            raise ValueError(f"{type(self).__name__} needs the name of at least one task.")
        if names == self.tasks:
            return
        if self.tasks:
            raise ValueError(
                f"{type(self).__name__} has streams for {', '.join(self.tasks)}, and the tasks are "
                f"{', '.join(names)}; build a new one."
            )
        self.tasks = names
        self._build(names)

    @abstractmethod
    def _build(self, tasks: Sequence[str]) -> None:
        """Make what the streams of these tasks need."""

    @abstractmethod
    def streams(
        self, images: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Compute the streams of some tasks, in one pass.

        Args:
            images: ``(N, C, H, W)``.
            tasks: Which streams to return.

        Returns:
            What ``forward`` gives, ``(N, num_features)``, and by task the map of each stage.
        """

    def networks(self) -> list[ResidualBackbone]:
        """Return the networks within; weights of a single network start each of them."""
        return list(self.network.children())  # type: ignore[arg-type]  # nothing else is put there

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts: each stage of all networks."""
        each = [network.stages() for network in self.networks()]
        return {name: [part for one in each for part in one[name]] for name in each[0]}

    def shared(self) -> nn.Module:
        """Return the network that belongs to no task: by default all of it."""
        return self

    def beside_heads(self, task: str | None = None) -> list[nn.Module]:
        """Return what is not shared: it trains with the heads, and no balancer sees its gradients.

        Args:
            task: Only what other tasks do not use; by default all.
        """
        del task
        return []

    def mixing(self) -> list[nn.Module]:
        """Return what combines the streams, in an optimizer group of its own without decay."""
        return []

    def lr_scales(self) -> dict[str, float]:
        """Return the factor on the learning rate of some stages."""
        return {}

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` that belong to no task."""
        return self.pool(self.maps(images))

    @abstractmethod
    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the map of each stage that belongs to no task."""

    def pool(self, maps: list[Tensor]) -> Tensor:
        """Return the mean ``(N, num_features)`` of the last map."""
        return self.networks()[0].pool(maps)

    def _check_named(self) -> None:
        """Refuse to compute before the tasks are known."""
        if not self.tasks:
            raise ValueError(
                f"{type(self).__name__} has no streams yet: call `name_tasks`, as modules do."
            )


def beside_heads(backbone: nn.Module, task: str | None = None) -> list[nn.Module]:
    """Return the parts of a backbone that are not shared by the tasks.

    Args:
        backbone: Any network; only one with streams has such parts.
        task: Only what other tasks do not use; by default all.
    """
    return backbone.beside_heads(task) if isinstance(backbone, StreamsBackbone) else []


def shared_part(backbone: nn.Module) -> nn.Module:
    """Return the network in a backbone that belongs to no task: by default all of it."""
    return backbone.shared() if isinstance(backbone, StreamsBackbone) else backbone


def mixing_parts(backbone: nn.Module) -> list[nn.Module]:
    """Return what combines the streams of a backbone, if it has any."""
    return backbone.mixing() if isinstance(backbone, StreamsBackbone) else []
