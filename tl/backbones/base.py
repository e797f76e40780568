"""What the rest of the framework may ask of a backbone."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import attrgetter
from typing import Literal

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Map images to feature vectors.

    Any other ``nn.Module`` with the attribute ``num_features`` is a backbone too; this class adds
    the stages that gradual unfreezing and discriminative learning rates need.

    A backbone may also have ``maps(images)`` and ``pool(maps)``, where ``forward(images)`` equals
    ``pool(maps(images))``. Maps are a list of tensors ``(N, C_s, H_s, W_s)``, one per stage, the
    lowest resolution last; ``map_channels`` lists their ``C_s``. A network of tokens returns one
    tensor ``(N, L, num_features)`` instead, and does not have ``map_channels``. Where `pool` has
    parameters of its own, ``pool_parameters()`` returns them: they have no gradient in a run whose
    heads all read maps.

    Attributes:
        num_features: Length of a feature vector.
    """

    num_features: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of float images ``(N, C, H, W)``."""

    @abstractmethod
    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the modules of each stage, stem first; each parameter is in exactly one stage."""


def check_in_channels(in_channels: int) -> None:
    """Check a number of image channels.

    Raises:
        ValueError: If it is less than 1.
    """
    if in_channels < 1:
        raise ValueError(f"`in_channels` must be 1 or more, got {in_channels}.")


def offered(backbone: nn.Module) -> Literal["maps", "tokens"] | None:
    """Return what a backbone offers besides vectors, ``None`` if nothing.

    Args:
        backbone: Any network. With ``maps`` and ``pool`` but without ``map_channels`` (or with
            ``None``) it offers tokens; with empty ``map_channels`` it offers vectors only.
    """
    methods = [getattr(backbone, name, None) for name in ("maps", "pool")]
    # a foreign network may hold children of these names
    if any(not callable(each) or isinstance(each, nn.Module) for each in methods):
        return None
    channels = getattr(backbone, "map_channels", None)
    if channels is None:
        return "tokens"
    return "maps" if len(channels) else None


def parameters_of(
    backbone: nn.Module, method: Literal["pool_parameters", "unread_parameters"]
) -> list[nn.Parameter]:
    """Return parameters that a backbone names by a method; none if it does not have the method.

    Args:
        backbone: Any network.
        method: ``pool_parameters``: those that no map depends on. ``unread_parameters``: those
            that not even features depend on.
    """
    named = getattr(backbone, method, None)
    return list(named()) if callable(named) and not isinstance(named, nn.Module) else []


def last_block(
    backbone: nn.Module, trains: Callable[[nn.Parameter], bool] = attrgetter("requires_grad")
) -> list[nn.Parameter]:
    """Return the trainable parameters of the last block with weights, and of norms after it.

    A block is a member of the topmost ``nn.Sequential`` of a stage: a residual block of a ResNet.
    Without such a structure, the last stage that trains counts as the block. Of several networks
    side by side it is the last block of each.

    Args:
        backbone: A network.
        trains: Returns whether a parameter trains; by default, whether it requires gradients.
    """
    networks = getattr(backbone, "networks", None)
    if callable(networks) and not isinstance(networks, nn.Module):
        return [p for network in networks() for p in last_block(network, trains)]
    found: list[nn.Parameter] = []
    for modules in reversed(stages_of(backbone).values()):
        blocks: list[nn.Module] = []
        for module in modules:
            blocks += list(module) if isinstance(module, nn.Sequential) else [module]
        for block in reversed(blocks):
            found = [*filter(trains, block.parameters()), *found]
            if any(p.ndim > 1 for p in found):  # more than scales and shifts
                return found
    return found


def stages_of(backbone: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the stages of any backbone, stem first.

    Args:
        backbone: A module; without a method ``stages`` it is a single stage, ``backbone``.
    """
    stages = getattr(backbone, "stages", None)
    # a foreign network may have a child called `stages`, as timm's ConvNeXt does
    if not callable(stages) or isinstance(stages, nn.Module):
        return {"backbone": [backbone]}
    return dict(stages())
