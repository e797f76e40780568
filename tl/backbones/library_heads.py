"""The classifiers of the networks of torchvision, timm and Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl.backbones.library import PretrainedBackbone
from tl.backbones.library_networks import library, torchvision_network
from tl.backbones.library_weights import last_linear, timm_file, torchvision_file
from tl.backbones.offline import hub_folder
from tl.checkpoints.files import read_checkpoint
from tl.questions.features import evaluating
from tl.transfer.names import find_state

_CLASSIFIER = "ForImageClassification"
_SIDE = 64  # of the images on which a head is compared with its network, if it takes any size


def library_head(
    package: str, name: str, weights: str | None, backbone: PretrainedBackbone
) -> nn.Module | None:
    """Return the classifier that a library's weights come with, on a backbone's features.

    Args:
        package: ``torchvision``, ``timm`` or ``huggingface``.
        name: The network.
        weights: What the backbone was built with.
        backbone: The network without its classifier.

    Returns:
        Features ``(N, num_features)`` to logits ``(N, C)``; ``None`` where the weights hold no
        classifier, or one that reads something else.
    """
    if weights is None:
        return None
    if package == "huggingface":
        return _of_transformers(hub_folder(name, weights=True), backbone)
    if package == "timm":
        settings: Any = backbone.model.pretrained_cfg
        layer, path = settings.get("classifier"), timm_file(backbone.model, name, weights)
    else:
        layer = last_linear(torchvision_network(name, None))
        path, _ = torchvision_file(name, weights)
    return _linear(path, layer, backbone.num_features)


def _linear(path: Path, layer: object, num_features: int) -> nn.Module | None:
    """Return a linear layer with the weights of a file."""
    state = find_state(read_checkpoint(path)) or {}
    weight, bias = state.get(f"{layer}.weight"), state.get(f"{layer}.bias")
    if not isinstance(weight, Tensor) or weight.shape[1:] != (num_features,):
        return None
    head = nn.Linear(num_features, len(weight), bias=isinstance(bias, Tensor))
    head.load_state_dict({"weight": weight, **({"bias": bias} if head.bias is not None else {})})
    return head


def _of_transformers(folder: Path, backbone: PretrainedBackbone) -> nn.Module | None:
    """Return the classifier of a folder, if it makes the network's own logits of the features."""
    transformers = library("transformers", "huggingface")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if not any(name.endswith(_CLASSIFIER) for name in config.architectures or ()):
        return None
    whole = transformers.AutoModelForImageClassification.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    head = getattr(whole, "classifier", None)
    size: Any = backbone.image_size or getattr(config, "image_size", None) or _SIDE
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, backbone.in_channels, height, width, generator=generator)
    with torch.no_grad(), evaluating(backbone):
        logits, features = whole.eval()(images).logits, backbone(images)
        if isinstance(head, nn.Module) and features.shape[1:] == (backbone.num_features,):
            same = torch.allclose(head(features), logits, rtol=1e-3, atol=1e-4)
            return head if same else None
    return None
