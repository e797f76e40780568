"""Sources to choose from, by path or by the name of a library's network."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from tl.backbones import HuggingFaceBackbone, TimmBackbone, TorchvisionBackbone
from tl.backbones.library_networks import given as weights_given
from tl.backbones.library_networks import library as installed
from tl.backbones.offline import PREPROCESSOR, hub_file, hub_folder
from tl.backbones.streams import StreamsBackbone
from tl.checkpoints.files import glance_at
from tl.data.trained_on import TrainedOn, sources_of
from tl.modules.base import SharedBackboneModule
from tl.modules.batch_norm import without_sources
from tl.private.torchvision import imagenet_accuracy
from tl.questions.candidates import Candidate, lineage_words, seen_classes
from tl.questions.features import Network
from tl.serving.library_heads import library_head
from tl.serving.load import load, torch_device
from tl.serving.readers import ImageReader
from tl.tasks import Classification
from tl.transfer.lineage import lineage

_log = logging.getLogger(__name__)
_LIBRARIES = ("torchvision", "timm", "huggingface")
_OF_TIMM = ("hf-hub", "hf_hub", "local-dir")  # addresses that timm reads
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_SIDE = 224
_WHOLE = 255  # of a byte
_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


def open_candidate(
    given: str,
    *,
    device: str | torch.device = "auto",
    backbone: nn.Module | None = None,
    source: str | None = None,
) -> Candidate:
    """Return a source to choose from.

    Args:
        given: A checkpoint, a run's folder or an address, as for :func:`tl.load`; or a network as
            ``torchvision:resnet18``, ``timm:resnet18.a1_in1k``, ``huggingface:microsoft/resnet-18``
            with its weights, ``...@NAME`` with others of the library or of a file, and
            ``...@random`` without any. The library may be left out.
        device: Where it computes; ``auto`` takes a GPU if there is one.
        backbone: As for :func:`tl.load`.
        source: Data that it is asked about: of a network that was trained on several sources, the
            one of this name says how images are normalised; otherwise the first.

    Raises:
        CheckpointError: If a file is missing, damaged, unsafe or not one of a model.
        ValueError: If the network is unknown.
    """
    device = torch_device(device)
    library, _, name = given.partition(":")
    if library in _LIBRARIES and not name.startswith("//"):
        return _of_library(library, name, given, device)
    if _is_path(given) or backbone is not None:
        return _of_checkpoint(given, device, backbone, source)
    name = given.partition("@")[0]
    if ":" in name and library not in _OF_TIMM:
        raise ValueError(
            f"{given} names the library {library!r}; expected one of {', '.join(_LIBRARIES)}, a "
            "checkpoint or a run's folder."
        )
    others = "huggingface" if "/" in name else "timm"
    library = "torchvision" if name in models.list_models(module=models) else others
    return _of_library(library, given, given, device)


def _is_path(given: str) -> bool:
    path = Path(given).expanduser()
    if "://" in given or given.endswith(_SUFFIXES) or path.exists():
        return True
    # a misspelt run: a repository is two names, of which the first is no folder here
    name = given.partition("@")[0]
    return "/" in name and (name.count("/") > 1 or path.parent.is_dir())


# Checkpoints of this framework


def _of_checkpoint(
    given: str, device: torch.device, backbone: nn.Module | None, source: str | None
) -> Candidate:
    model = load(given, backbone=backbone, device=device)
    content = glance_at(model.path)
    record: Mapping[str, Any] = content["tl"]
    known = model.sources
    chosen = source if source in known else known[0]
    reader = model.reader(chosen)
    network = without_sources(model.module.backbone)
    ancestor = lineage(model.path)
    described = sources_of(record.get("data")).get(str(chosen), {})
    seen, seen_all = seen_classes(record)
    return Candidate(
        name=given,
        network=Network(
            network,
            lambda samples: model.transform(list(samples), chosen),
            _read_as(described),
            _heads(model.module),
            device,
        ),
        modality=reader.modality,
        lineage=lineage_words(ancestor),
        parameters=sum(p.numel() for p in network.parameters()),
        accuracy=_accuracy(model.module, model.metrics),
        size=reader.size if isinstance(reader, ImageReader) else None,
        sha256=ancestor.sha256,
        seen=seen,
        seen_all=seen_all,
    )


def _read_as(described: Mapping[str, Any]) -> str:
    """Return a hash of what a source's description says of reading."""
    kept = ("image_size", "mean", "std", "tokenizer", "max_length", "shapes", "statistics")
    parts = {key: described.get(key) for key in kept}
    if described.get("pixel_range"):  # without one, the cached features of earlier versions hold
        parts["pixel_range"] = described["pixel_range"]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _heads(module: SharedBackboneModule) -> dict[str, nn.Module]:
    """Return the heads of classifications on vectors, by task."""
    if isinstance(module.backbone, StreamsBackbone):
        return {}  # each reads a stream of its own
    return {
        name: module.heads[name]
        for name in module.heads
        if isinstance(task := module.tasks[name], Classification) and not task.multi_label
    }


def _accuracy(module: SharedBackboneModule, metrics: Mapping[str, float]) -> float | None:
    """Return the mean validation accuracy of the classifications, if the run measured it.

    Episodes, pixels and several labels are something else, and do not count.
    """
    named = [
        name
        for name, task in module.tasks.items()
        if isinstance(task, Classification) and not task.multi_label and task.counts_samples
        if not task.on_pixels
    ]
    plain = metrics.get("val/acc")
    if plain is not None and len(named) == len(module.tasks):
        return float(plain)
    found = [metrics.get(f"val/{name}/acc") for name in named]
    values = [float(value) for value in found if value is not None]
    return sum(values) / len(values) if values else None


# Networks of libraries


def _of_library(library: str, name: str, given: str, device: torch.device) -> Candidate:
    name, _, weights = name.partition("@")
    chosen = weights_given({"": "DEFAULT", "random": None}.get(weights, weights))
    network: Any
    size, accuracy = _SIDE, None
    # the same command gives the same numbers, and its features are found in the cache
    with torch.random.fork_rng(devices=[], enabled=chosen is None):
        if chosen is None:
            torch.default_generator.manual_seed(0)
        if library == "torchvision":
            network = TorchvisionBackbone(name, chosen, "keep")
            size, mean, std, accuracy = _torchvision(name, chosen)
        elif library == "timm":
            network = TimmBackbone(name, chosen, "keep", _timm_size(name))
            size, mean, std = _timm(network.model.pretrained_cfg)
        else:
            installed("transformers", "huggingface")
            if chosen in ("DEFAULT", None):
                size, mean, std = _huggingface(name, hub_folder(name, weights=chosen is not None))
            network = HuggingFaceBackbone(name, chosen, "keep", size)
    head = library_head(library, name, chosen, network)
    known = _known(name, size, mean, std)
    reader = ImageReader(known)

    def read(samples: Sequence[Any]) -> Tensor:
        found = reader.join([reader.read(sample) for sample in samples])
        assert isinstance(found, Tensor)  # noqa: S101 - images are one tensor
        return found

    said = f"{library} {Path(weights or 'weights').name}"
    return Candidate(
        name=given,
        network=Network(network, read, reader.way, {"classes": head} if head else {}, device),
        modality="images",
        lineage="random weights" if chosen is None else said,
        parameters=sum(p.numel() for p in network.parameters()),
        accuracy=accuracy,
        size=size,
        sha256=(network.provenance or {}).get("sha256"),
        seen_all=chosen is None,
    )


def _known(name: str, size: int, mean: Sequence[float], std: Sequence[float]) -> TrainedOn:
    return TrainedOn(
        name=name,
        kind="real",
        fingerprint="",
        classes={},
        groups=None,
        image_size=size,
        mean=_WHOLE * torch.tensor(mean),
        std=_WHOLE * torch.tensor(std),
        val_size=0.0,
        label_fraction=1.0,
        seed=0,
        val_folder=None,
    )


def _torchvision(
    name: str, weights: str | None
) -> tuple[int, Sequence[float], Sequence[float], float | None]:
    """Return size, mean, deviation and ImageNet accuracy of torchvision's weights."""
    choices = models.get_model_weights(name).__members__
    chosen = choices.get(weights or "DEFAULT") or choices.get("DEFAULT")
    if chosen is None:
        return _SIDE, _MEAN, _STD, None
    preset: Any = chosen.transforms()
    accuracy = imagenet_accuracy(chosen) if weights in choices else None
    return int(preset.crop_size[0]), preset.mean, preset.std, accuracy


def _timm_size(name: str) -> int | None:
    """Return the size that timm's list of networks gives, ``None`` of one that is not in it."""
    try:
        known = installed("timm", "timm").get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag: the backbone says which there are
        return None
    return None if known is None else int(known.input_size[-1])


def _timm(configuration: Mapping[str, Any]) -> tuple[int, Sequence[float], Sequence[float]]:
    size = configuration.get("input_size") or (3, _SIDE, _SIDE)
    return (
        int(size[-1]),
        configuration.get("mean") or _MEAN,
        configuration.get("std") or _STD,
    )


def _huggingface(name: str, folder: Path) -> tuple[int, Sequence[float], Sequence[float]]:
    """Return what ``preprocessor_config.json`` says, ImageNet's values without one."""
    file = folder / PREPROCESSOR
    if not file.is_file() and not Path(name).expanduser().is_dir():
        with suppress(ValueError):  # weights may have been cached without it
            file = hub_file(name, PREPROCESSOR)
    if not file.is_file():
        _log.warning(
            "%s has no %s here: images are read at %d pixels, normalised as ImageNet's.",
            *(name, PREPROCESSOR, _SIDE),
        )
        return _SIDE, _MEAN, _STD
    content = json.loads(file.read_text())
    given = content.get("crop_size") or content.get("size") or _SIDE
    if isinstance(given, Mapping):
        given = given.get("height") or given.get("shortest_edge") or _SIDE
    return int(given), content.get("image_mean") or _MEAN, content.get("image_std") or _STD
