"""Low-rank adapters beside the frozen layers of a network."""

from __future__ import annotations

import copy
import re
from typing import Any, Literal, get_args

from torch import Tensor, nn

from tl.backbones.base import Backbone, offered, parameters_of, stages_of
from tl.backbones.library_networks import library
from tl.backbones.streams import StreamsBackbone
from tl.private.torch import BatchNorm

Layers = Literal["attention", "all"]
_NORMS = (BatchNorm, nn.GroupNorm, nn.LayerNorm)


class LoraBackbone(Backbone):
    """Train low-rank updates of a backbone's layers: ``W + alpha / rank * B A``.

    Hu et al., 2021, arXiv:2106.09685, as implemented by peft (``pip install 'tl[lora]'``). The
    paper adapts linear layers. For a convolution, A is a convolution with the same kernel and
    stride to ``rank`` channels, and B a 1x1 convolution back. A starts at random and B at 0, so
    training starts from the unchanged backbone. Grouped and dilated convolutions, which peft
    factorises wrongly, are not adapted.

    The backbone's own weights never train, under any strategy. ``init_from`` loads weights as into
    the backbone alone; a checkpoint with adapters only fits a network with the same adapters.

    Args:
        backbone: The network; changed in place.
        rank: Channels or features between A and B, 1 or more.
        alpha: Strength of the update, above 0.
        norms: Also train scales and shifts of normalisation layers. They are few, and the
            pretrained ones fit other images badly. The paper trains none.
        layers: ``attention``: linear layers of attention only, as in the paper, the default for
            language models; ``all``: every linear layer and convolution, the default for others.

    Raises:
        ModuleNotFoundError: If peft is not installed.
        ValueError: If an argument is out of range, or the backbone has no layer to adapt.
    """

    def __init__(
        self,
        backbone: nn.Module,
        rank: int = 8,
        alpha: float = 8.0,
        norms: bool = True,
        layers: Layers | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"`rank` must be 1 or more, got {rank}.")
        if not alpha > 0:
            raise ValueError(f"`alpha` must be above 0, got {alpha}.")
        if layers not in (None, *get_args(Layers)):
            raise ValueError(f"`layers` must be attention or all, got {layers!r}.")
        if isinstance(backbone, StreamsBackbone):
            raise ValueError(  # noqa: TRY004 - an argument, as all others
                f"LoRA does not adapt {type(backbone).__name__}, whose parts for the tasks are new "
                "and must train whole; take one or the other."
            )
        names = _adapted(backbone, layers)
        peft = library("peft", "lora", "LoRA")
        # a pattern of whole names: from a list peft takes whatever ends in one of them
        pattern = "|".join(map(re.escape, names))
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=pattern)
        self.backbone: nn.Module = peft.inject_adapter_in_model(config, backbone)
        for layer in self.backbone.modules():
            if norms and isinstance(layer, _NORMS):
                layer.requires_grad_(True)
        self.num_features: int = backbone.num_features  # type: ignore[assignment]
        self.in_channels: int | None = getattr(backbone, "in_channels", None)
        if offered(backbone) != "tokens":
            self.map_channels: tuple[int, ...] = getattr(backbone, "map_channels", ())
        else:  # what the data are checked against
            self.vocab_size: int | None = getattr(backbone, "vocab_size", None)
            self.max_length: int | None = getattr(backbone, "max_length", None)
            self.tokenizer_hash: str | None = getattr(backbone, "tokenizer_hash", None)
        self.pretrained = bool(getattr(backbone, "pretrained", False))
        self.provenance: dict[str, Any] | None = getattr(backbone, "provenance", None)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of images ``(N, C, H, W)``."""
        features: Tensor = self.backbone(images)
        return features

    def maps(self, images: Tensor) -> list[Tensor] | Tensor:
        """Return the backbone's maps or tokens, if it has them."""
        found: list[Tensor] | Tensor = self.backbone.maps(images)  # type: ignore[operator]
        return found

    def pool(self, maps: list[Tensor] | Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of the backbone's maps or tokens."""
        found: Tensor = self.backbone.pool(maps)  # type: ignore[operator]
        return found

    def pool_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the backbone that no map depends on, adapters included."""
        return parameters_of(self.backbone, "pool_parameters")

    def unread_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the backbone that its features do not depend on."""
        return parameters_of(self.backbone, "unread_parameters")

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the backbone's stages; an adapter belongs to the stage of its layer."""
        return stages_of(self.backbone)

    def merged(self) -> nn.Module:
        """Return a copy of the backbone with the updates merged into its weights.

        Its features are the same up to rounding, and all of it trains.
        """
        merged = copy.deepcopy(self.backbone)
        layers: dict[str, Any] = {
            name: layer for name, layer in merged.named_modules() if hasattr(layer, "lora_A")
        }
        for name, layer in layers.items():
            layer.merge(safe_merge=True)
            merged.set_submodule(name, layer.get_base_layer())
        return merged.requires_grad_(True)


def _adapted(backbone: nn.Module, layers: Layers | None) -> list[str]:
    """Return the names of the layers to adapt."""
    if layers is None:
        layers = "attention" if offered(backbone) == "tokens" else "all"
    names = [
        name
        for name, layer in backbone.named_modules()
        if _is_adapted(layer) and (layers == "all" or _is_of_attention(name))
    ]
    if not names:
        of = "of attention" if layers == "attention" else "or convolution"
        raise ValueError(f"{type(backbone).__name__} has no linear layer {of} to adapt.")
    return names


def _is_adapted(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.dilation == (1, 1)
    return isinstance(layer, nn.Linear)


def _is_of_attention(name: str) -> bool:
    """Tell by its name, in which every encoder of Transformers says ``attention`` or ``attn``."""
    return "attention" in name or "attn" in name
