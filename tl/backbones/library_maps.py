"""Feature maps of the networks of torchvision, timm and Hugging Face.

A network of tokens gives maps too: its patches in their places. What belongs to no place, such as
a class token, is repeated at every place of the last map, as channels behind the patches' own: the
readout "project" of Ranftl et al., 2021, arXiv:2103.13413, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torchvision import models

from tl.private.torch import with_children

# Children of torchvision's networks that stand behind the last map.
_BEHIND = ("avgpool", "norm", "permute", "flatten", "dropout", "classifier", "fc", "head", "heads")
# Children that are a row of stages.
_ROWS = ("features", "layers", "trunk_output", "blocks")
_OF_ONE_RESOLUTION = 4  # maps, as in DPT
_IMAGES = 4  # dimensions


class Route(Protocol):
    """The way through a network by its feature maps."""

    def outputs(self, model: nn.Module, images: Tensor) -> list[Tensor]:
        """Return maps ``(N, C, H, W)`` in the order of their computation."""

    def pool(self, model: nn.Module, last: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of the last of them."""


def kept(maps: Sequence[Tensor]) -> list[int]:
    """Return which maps to give: the last of each resolution, or four of a single resolution.

    Args:
        maps: ``(N, C, H, W)`` each, in the order of their computation.

    Returns:
        Their indices, the very last included.
    """
    top = maps[0].shape[2]
    # halvings: a convolution without padding takes off an edge, which is no other resolution
    last = {round(math.log2(top / each.shape[2])): index for index, each in enumerate(maps)}
    if len(last) > 1:
        return sorted({*last.values(), len(maps) - 1})
    steps = range(1, _OF_ONE_RESOLUTION + 1)
    return sorted({round((len(maps) - 1) * step / _OF_ONE_RESOLUTION) for step in steps})


def tokens_to_map(tokens: Tensor, size: Sequence[int], *, prefix: bool) -> Tensor:
    """Put tokens in the places of their patches.

    Args:
        tokens: ``(N, P + H * W, D)``; the first ``P`` belong to no place.
        size: ``H`` and ``W``.
        prefix: Whether to repeat those first tokens at every place.

    Returns:
        ``(N, D, H, W)``, or ``(N, (1 + P) * D, H, W)`` with them.
    """
    loose = tokens.shape[1] - size[0] * size[1]
    if loose < 0:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill {size[0]}x{size[1]} places.")
    count, _, width = tokens.shape
    patches = tokens[:, loose:].transpose(1, 2).reshape(count, width, size[0], size[1])
    if not loose or not prefix:
        return patches
    everywhere = tokens[:, :loose].flatten(1)[:, :, None, None].expand(-1, -1, *size)
    return torch.cat([patches, everywhere], 1)


def map_to_tokens(last: Tensor, loose: int) -> Tensor:
    """Return the tokens ``(N, P + H * W, D)`` of a map ``(N, (1 + P) * D, H, W)``.

    Args:
        last: The map, from :func:`tokens_to_map`.
        loose: ``P``, how many tokens belong to no place.
    """
    width = last.shape[1] // (1 + loose)
    patches = last[:, :width].flatten(2).transpose(1, 2)
    if not loose:
        return patches
    return torch.cat([last[:, width:, 0, 0].reshape(-1, loose, width), patches], 1)


class Trunk:
    """Way through a network of torchvision whose parts run one after the other.

    The rest of the network, from the last map on, is its own ``forward`` without these parts.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_children()]
        behind = (index for index, name in enumerate(names) if name in _BEHIND)
        self.parts = names[: next(behind, len(names))]
        self.channels_last = isinstance(model, models.SwinTransformer)

    def outputs(self, model: nn.Module, images: Tensor) -> list[Tensor]:
        """Return the output ``(N, C, H, W)`` of each part, and of each member of a row."""
        found = []
        x = images
        for name in self.parts:
            part = getattr(model, name)
            for step in part.children() if name in _ROWS else (part,):
                x = step(x)
                found.append(x)
        return [each.permute(0, 3, 1, 2) for each in found] if self.channels_last else found

    def pool(self, model: nn.Module, last: Tensor) -> Tensor:
        """Run what follows the last map."""
        empty = {
            name: nn.ModuleList()
            if isinstance(getattr(model, name), nn.ModuleList)
            else nn.Identity()
            for name in self.parts
        }
        given = last.permute(0, 2, 3, 1) if self.channels_last else last
        found: Tensor = with_children(model, empty)(given)
        return found


class TorchvisionTokens:
    """Way through a vision transformer of torchvision."""

    def outputs(self, model: Any, images: Tensor) -> list[Tensor]:  # noqa: ANN401 - untyped
        """Return the patches after each layer, and with the class token after the last norm."""
        patches = model.conv_proj(images)
        size = patches.shape[2:]
        token = model.class_token.expand(len(images), -1, -1)
        tokens = torch.cat([token, patches.flatten(2).permute(0, 2, 1)], 1)
        x = model.encoder.dropout(tokens + model.encoder.pos_embedding)
        found = []
        for layer in model.encoder.layers:
            x = layer(x)
            found.append(tokens_to_map(x, size, prefix=False))
        return [*found, tokens_to_map(model.encoder.ln(x), size, prefix=True)]

    def pool(self, model: Any, last: Tensor) -> Tensor:  # noqa: ANN401 - untyped
        """Return the class token, after what is left of the classifier."""
        found: Tensor = model.heads(map_to_tokens(last, 1)[:, 0])
        return found


class TimmIntermediates:
    """Way through a network of timm."""

    def outputs(self, model: Any, images: Tensor) -> list[Tensor]:  # noqa: ANN401 - untyped
        """Return the intermediate maps, and what the network's own head reads."""
        last, found = model.forward_intermediates(images)
        if last.ndim < _IMAGES:
            return [*found, tokens_to_map(last, found[-1].shape[2:], prefix=True)]
        return [*found, last.permute(0, 3, 1, 2) if _is_channels_last(model) else last]

    def pool(self, model: Any, last: Tensor) -> Tensor:  # noqa: ANN401 - untyped
        """Run the network's own head."""
        if hasattr(model, "num_prefix_tokens"):
            last = map_to_tokens(last, model.num_prefix_tokens)
        elif _is_channels_last(model):
            last = last.permute(0, 2, 3, 1)
        found: Tensor = model.forward_head(last)
        return found


def _is_channels_last(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", "NCHW") == "NHWC"


# How Transformers' networks get a vector from their last hidden state, by library convention.
_POOLINGS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "pooler": lambda model, last: model.pooler(last).flatten(1),  # ResNet, RegNet, ViT
    "pooler of channels": lambda model, last: model.pooler(last.transpose(1, 2)).flatten(1),  # Swin
    "norm of the mean": lambda model, last: model.layernorm(last.mean([-2, -1])),  # ConvNeXt
    "class token": lambda _, last: last[:, 0],  # ViT without pooler, DINOv2
    "mean": lambda _, last: last.mean((-2, -1)),
}


class HiddenStates:
    """Way through an image network of Transformers.

    Args:
        model: The network, in evaluation mode.
        images: Any images ``(N, C, H, W)``.
        features: What the network gives for them, ``(N, num_features)``.

    Raises:
        ValueError: If it gets its features from the last hidden state in another way.
    """

    def __init__(self, model: nn.Module, images: Tensor, features: Tensor) -> None:
        self.loose: int | None = None  # tokens without a place; None for maps
        out = model(images, output_hidden_states=True)
        last = out.last_hidden_state
        if last.ndim < _IMAGES:
            height, width = self._size(model, images, out)
            self.loose = last.shape[1] - height * width
        for way, pooled in _POOLINGS.items():
            try:
                found = pooled(model, last)
            except Exception:  # noqa: BLE001, S112 - this network is not made so
                continue
            if torch.equal(found, features):
                self.way = way
                return
        raise ValueError(f"{type(model).__name__} pools its features in an unknown way.")

    def outputs(self, model: nn.Module, images: Tensor) -> list[Tensor]:
        """Return the hidden states as maps, the last one as the network pools it."""
        out = model(images, output_hidden_states=True)
        last = out.last_hidden_state
        if last.ndim == _IMAGES:
            return [*out.hidden_states, last]
        size = self._size(model, images, out)
        states = getattr(out, "reshaped_hidden_states", None) or [
            tokens_to_map(state, size, prefix=False) for state in out.hidden_states
        ]
        return [*states, tokens_to_map(last, size, prefix=True)]

    def pool(self, model: nn.Module, last: Tensor) -> Tensor:
        """Pool the last hidden state as the network does."""
        return _POOLINGS[self.way](
            model, last if self.loose is None else map_to_tokens(last, self.loose)
        )

    @staticmethod
    def _size(model: Any, images: Tensor, out: Any) -> tuple[int, int]:  # noqa: ANN401 - untyped
        """Return how many tokens there are from top to bottom, and from left to right."""
        if (states := getattr(out, "reshaped_hidden_states", None)) is not None:
            return states[-1].shape[2], states[-1].shape[3]
        edge = model.config.patch_size
        height, width = edge if isinstance(edge, tuple | list) else (edge, edge)
        return images.shape[2] // height, images.shape[3] // width
