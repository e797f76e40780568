"""The classifiers of the networks of torchvision, timm and Hugging Face."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl.backbones.library import PretrainedBackbone
from tl.backbones.library_networks import library, torchvision_network
from tl.backbones.library_weights import last_linear, timm_file, torchvision_file
from tl.backbones.offline import hub_folder
from tl.checkpoints.errors import first_line
from tl.checkpoints.files import read_checkpoint
from tl.questions.features import evaluating
from tl.transfer.names import find_state, unwrapped

_log = logging.getLogger(__name__)
_CLASSIFIER = "ForImageClassification"
_SIDE = 224  # of the images on which a head is compared with its network
_CLOSE = 1e-3  # relative to the largest logit


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
        Features ``(N, num_features)`` to logits ``(N, C)``, those of the whole network; ``None``
        where the weights hold no classifier, or one that reads something else.
    """
    if weights is None:
        return None
    build = {"torchvision": _torchvision, "timm": _timm}.get(package, _transformers)
    try:
        head, whole = build(name, weights, backbone)
        if head is None or _gives_the_logits(head, whole, backbone):
            return head
        why = "it reads something else than the features"
    except Exception as error:  # noqa: BLE001 - any structure may come, and is a source without it
        why = first_line(error)
    _log.warning("The classifier of %s is left out: %s.", name, why.rstrip("."))
    return None


def _torchvision(
    name: str, weights: str, backbone: PretrainedBackbone
) -> tuple[nn.Module | None, nn.Module]:
    whole = torchvision_network(name, None)
    last = str(last_linear(whole))
    state = _state(torchvision_file(name, weights)[0], whole)
    weight, bias = state.get(f"{last}.weight"), state.get(f"{last}.bias")
    if weight is None or bias is None:
        return None, whole
    head = nn.Linear(backbone.num_features, len(weight))
    head.load_state_dict({"weight": weight, "bias": bias})
    whole.set_submodule(last, head)
    whole.load_state_dict(state)
    return head, whole


def _timm(
    name: str, weights: str, backbone: PretrainedBackbone
) -> tuple[nn.Module | None, nn.Module]:
    settings: Any = backbone.model.pretrained_cfg
    whole = library("timm", "timm").create_model(name, pretrained=False)
    state = _state(timm_file(backbone.model, name, weights), whole)
    weight = state.get(f"{settings.get('classifier')}.weight")
    if weight is None:
        return None, whole
    whole.reset_classifier(len(weight))
    whole.load_state_dict(state)
    return whole.get_classifier(), whole


def _transformers(
    name: str, weights: str, backbone: PretrainedBackbone
) -> tuple[nn.Module | None, nn.Module]:
    del weights
    transformers = library("transformers", "huggingface")
    folder = hub_folder(name, weights=True)
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if not any(each.endswith(_CLASSIFIER) for each in config.architectures or ()):
        return None, backbone
    whole = transformers.AutoModelForImageClassification.from_pretrained(
        folder, local_files_only=True, dtype=torch.float32
    )
    return whole.classifier, whole


def _state(path: Path, whole: nn.Module) -> Mapping[str, Tensor]:
    """Read a state dict, without prefixes of wrappers that a network does not have."""
    state, own = find_state(read_checkpoint(path)) or {}, whole.state_dict()
    return {
        next((each for each in unwrapped(name) if each in own), name): value
        for name, value in state.items()
    }


def _gives_the_logits(head: nn.Module, whole: nn.Module, backbone: PretrainedBackbone) -> bool:
    """Tell whether a head makes a network's logits of a backbone's features."""
    size = backbone.image_size or _SIDE
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, backbone.in_channels, size, size, generator=generator)
    with torch.no_grad(), evaluating(whole, backbone):
        given = whole(images)
        logits, found = getattr(given, "logits", given), head(backbone(images))
    difference = (found - logits).abs().max() if found.shape == logits.shape else torch.inf
    return bool(difference <= _CLOSE * logits.abs().max())
