"""Base class of the libraries' networks: features, maps, channels, stride."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional

from tl.backbones.base import Backbone
from tl.backbones.library_maps import Route, kept
from tl.backbones.structure import adapt_stem, stages_by_structure

StemChoice = Literal["32x32", "keep"]
OutputStride = Literal[8, 16, 32]
_LARGE = 224
_ORIGINAL = "original stem"


class PretrainedBackbone(Backbone):
    """A library's network as a backbone, with its stem or the images adapted.

    Its maps are the last one of each resolution, or four if all have the same resolution. One pass
    of the network serves maps and features: ``forward`` equals ``pool`` of ``maps`` bit for bit.
    The constructor verifies this on one image; a network that fails has empty `map_channels` and
    offers vectors only.

    Args:
        model: The network, without its classifier.
        stem: ``32x32`` or ``keep``.
        image_size: Height and width to resize images to; ``None`` leaves them as they are.
        in_channels: Channels of the images.
        output_stride: Size of the images over that of the last map that the network was built
            for; ``None`` accepts any.

    Attributes:
        model: The network, without its classifier. In checkpoints its names follow ``model.``.
        num_features: Length of its features.
        in_channels: Channels of the images.
        map_channels: Channels of its maps, from the highest resolution to the lowest.
        pretrained: Whether weights were loaded.
        provenance: Where they came from, for checkpoints; ``None`` for random weights.

    Raises:
        ValueError: If an argument is out of range or does not fit the network.
    """

    def __init__(
        self,
        model: nn.Module,
        stem: StemChoice,
        image_size: int | None,
        in_channels: int = 3,
        output_stride: OutputStride | None = None,
    ) -> None:
        super().__init__()
        if stem not in get_args(StemChoice):
            raise ValueError(
                f"`stem` must be one of {', '.join(get_args(StemChoice))}, got {stem!r}."
            )
        if image_size is not None and image_size < 1:
            raise ValueError(f"`image_size` must be 1 or more, got {image_size}.")
        self.model = model
        self.image_size = image_size
        self.in_channels = in_channels
        self.pretrained = False
        self.provenance: dict[str, Any] | None = None
        self.adapted = adapt_stem(model) if stem == "32x32" else _ORIGINAL
        self.map_channels: tuple[int, ...] = ()
        self._route: Route | None = None
        self._taps: list[int] = []
        self._behind_maps: list[str] = []  # parameters or modules, by name
        self._never_read: list[str] = []
        self._pool_writes = False
        self.num_features = self._probe(output_stride)

    @abstractmethod
    def route(self, images: Tensor, features: Tensor) -> Route:
        """Return how to compute the network's maps, and features from the last map.

        Args:
            images: Any images ``(N, in_channels, H, W)`` of the network's size.
            features: The network's features of these images ``(N, num_features)``.
        """

    def _probe(self, output_stride: int | None) -> int:
        """Run one image to learn the shapes of the outputs; returns the number of features.

        The numbers that the libraries state refer to the input of a last layer.
        """
        modes = {module: module.training for module in self.modules()}
        size = self.image_size or (_LARGE if self.adapted == _ORIGINAL else 32)
        numbers = torch.linspace(-1, 1, self.in_channels * size * size)
        images = numbers.view(1, self.in_channels, size, size)
        try:
            features = self.eval().features(images)
            if not isinstance(features, Tensor) or features.ndim != 2:  # noqa: PLR2004 - (N, D)
                raise ValueError(
                    f"{type(self.model).__name__} does not return feature vectors (N, D) but "
                    f"{getattr(features, 'shape', type(features).__name__)}; choose another "
                    "network."
                )
            self._never_read = self._names_beside([features])
            self._probe_maps(images, features)
        finally:
            for module, mode in modes.items():
                module.training = mode
        self._check_stride(output_stride)
        return features.shape[1]

    def _probe_maps(self, images: Tensor, features: Tensor) -> None:
        try:
            route = self.route(images, features)
            outputs = route.outputs(self.model, images)
            last = outputs[-1].detach().clone()
            same = torch.equal(route.pool(self.model, outputs[-1]), features)
            writes = not torch.equal(outputs[-1], last)
        except Exception:  # noqa: BLE001 - any structure may come; without a route, no maps
            return
        if not same:
            return
        self._route, self._taps, self._pool_writes = route, kept(outputs), writes
        maps = [outputs[index] for index in self._taps]
        self.map_channels = tuple(each.shape[1] for each in maps)
        self._strides = images.shape[-1] / maps[-1].shape[-1]
        self._behind_maps = self._names_beside(maps)

    def _names_beside(self, outputs: Iterable[Tensor]) -> list[str]:
        """Return the names of the parameters that outputs do not depend on.

        A layer is listed instead of its parameters, because adapters rename these.
        """
        reached = parameters_behind(outputs)
        names = []
        for name, parameter in self.named_parameters():
            if id(parameter) not in reached:
                layer = name.rpartition(".")[0]
                alone = next(self.get_submodule(layer).children(), None) is None
                names.append(f"{layer}." if alone else name)
        return list(dict.fromkeys(names))

    def _check_stride(self, output_stride: int | None) -> None:
        if output_stride is None:
            return
        found = self._strides if self._route is not None else None
        if found != output_stride:
            what = f"a stride of {found:g}" if found else "no maps"
            raise ValueError(
                f"`output_stride` is {output_stride}, and {type(self.model).__name__} has "
                f"{what}; leave it out, or choose a network with dilation, such as resnet50."
            )

    def features(self, images: Tensor) -> Tensor:
        """Return the network's features of images of its size."""
        found: Tensor = self.model(images)
        return found

    def _resized(self, images: Tensor) -> Tensor:
        size = self.image_size
        if size is None or images.shape[2:] == (size, size):
            return images
        return functional.interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of images ``(N, in_channels, H, W)``."""
        return self.features(self._resized(images))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return feature maps ``(N, C_s, H_s, W_s)`` of images ``(N, in_channels, H, W)``."""
        outputs = self._found().outputs(self.model, self._resized(images))
        return [outputs[index] for index in self._taps]

    def pool(self, maps: list[Tensor]) -> Tensor:
        """Return the features ``(N, num_features)`` of the network's maps."""
        last = maps[-1].clone() if self._pool_writes else maps[-1]
        return self._found().pool(self.model, last)

    def _found(self) -> Route:
        if self._route is None:
            raise ValueError(f"{type(self.model).__name__} offers vectors only, not maps.")
        return self._route

    def pool_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that no map depends on, such as those of a final norm."""
        return self._named(self._behind_maps)

    def unread_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that features do not depend on, such as a mask token."""
        return self._named(self._never_read)

    def _named(self, names: list[str]) -> list[nn.Parameter]:
        layers = tuple(name for name in names if name.endswith("."))
        return [p for n, p in self.named_parameters() if n in names or n.startswith(layers)]

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the stages: ``stem``, then those with the library's names."""
        return stages_by_structure(self.model)

    def say(self, what: str) -> None:
        """Log the network and its adaptations in one line."""
        images = f"images resized to {self.image_size}x{self.image_size}" if self.image_size else ""
        rank_zero_info(f"tl: {what}; {self.adapted}, {images or 'original image size'}.")


def parameters_behind(outputs: Iterable[Tensor]) -> set[int]:
    """Return the ids of the parameters that tensors depend on, as autograd has recorded it."""
    nodes: list[Any] = [each.grad_fn for each in outputs if each.grad_fn is not None]
    seen: set[Any] = set(nodes)
    found: set[int] = set()
    while nodes:
        node = nodes.pop()
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return found
