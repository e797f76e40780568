"""What the rest of the framework may ask of a backbone."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Turn images into feature vectors.

    Any other ``nn.Module`` with the attribute ``num_features`` is a backbone too; this class adds
    the stages that gradual unfreezing and discriminative learning rates work on.

    A backbone may also have ``maps(images)`` and ``pool(maps)``, with ``forward(images)`` equal to
    ``pool(maps(images))``. Maps are a list of tensors ``(N, C_s, H_s, W_s)``, one for each stage,
    the lowest resolution last, with ``map_channels`` their ``C_s``; of a network of tokens they
    are one tensor ``(N, L, num_features)``, and there are no ``map_channels``. Where `pool` has
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
        """Name the parts from the stem to the top; each parameter is in exactly one of them."""


def check_in_channels(in_channels: int) -> None:
    """Refuse images without channels.

    Raises:
        ValueError: If there is less than one.
    """
    if in_channels < 1:
        raise ValueError(f"`in_channels` must be 1 or more, got {in_channels}.")


def offered(backbone: nn.Module) -> Literal["maps", "tokens"] | None:
    """Return what a backbone gives besides vectors, if anything.

    Args:
        backbone: Any network. One with ``maps`` and ``pool`` but without ``map_channels`` (or with
            ``None``) gives tokens; one whose ``map_channels`` are empty gives neither.
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


def _requires_grad(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad


def last_block(
    backbone: nn.Module, trains: Callable[[nn.Parameter], bool] = _requires_grad
) -> list[nn.Parameter]:
    """Parameters that train of the last block with weights, and of norms behind it.

    A block is a member of the topmost ``nn.Sequential`` of a stage: a residual block of a ResNet.
    Where there is no such structure, it is the last stage that trains. Of several networks side by
    side it is the last block of each.

    Args:
        backbone: A network.
        trains: Tells if a parameter trains; by default, if it requires gradients.
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
    """Return the stages of any backbone, from the stem to the top.

    Args:
        backbone: A module; one without a method ``stages`` is a single stage, ``backbone``.
    """
    stages = getattr(backbone, "stages", None)
    # A foreign network may hold a child called `stages` (timm's ConvNeXt does): no such method.
    if not callable(stages) or isinstance(stages, nn.Module):
        return {"backbone": [backbone]}
    return dict(stages())
