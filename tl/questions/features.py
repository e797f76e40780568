"""Features of a network on a split, computed once."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.batch import Inputs, on_each
from tl.checkpoints.whole_files import write_whole
from tl.data.cache import default_cache
from tl.questions.samples import Samples
from tl.questions.weights_hash import NoHashError, weights_hash

_log = logging.getLogger(__name__)
_OUTPUTS = "outputs/"
_IMAGE = 3  # dimensions of an image


@dataclass(frozen=True)
class Extracted:
    """What a network gives for the samples of a split.

    Args:
        features: ``(N, D)`` float32, or ``(N, P, D)`` at `P` positions of each image.
        outputs: Outputs of the heads by task, such as logits ``(N, C)``.
        places: Positions ``(N, P, 2)`` of features on maps, as fractions of height and width.
    """

    features: Tensor
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    places: Tensor | None = None


@dataclass(frozen=True)
class Network:
    """A network that features are taken from, and how it reads samples.

    Args:
        backbone: Inputs to features ``(N, num_features)``.
        heads: Features to outputs by task, for heads that read vectors.
        read: Samples to inputs: with the size and normalisation, or the tokenizer, that the network
            was trained with.
        read_as: What distinguishes one way of reading from another, as text.
        device: Where it computes.
    """

    backbone: nn.Module
    read: Callable[[Sequence[Any]], Inputs]
    read_as: str
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    device: torch.device | str = "cpu"


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put networks into evaluation mode, and each part back into its own mode at the end."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def features_of(
    network: Network,
    samples: Samples,
    *,
    places: int = 0,
    within: tuple[float, float] = (1.0, 1.0),
    batch_size: int = 256,
    cache: Path | None = None,
) -> Extracted:
    """Return a network's features and outputs on samples, from the cache if they are there.

    The cache is keyed by the hash of all weights, the network's structure and code, the way it
    reads and the fingerprint of the samples, so that a changed weight or image is computed again.
    Features of a network without such a hash are not cached, which a warning says once.

    Args:
        network: The network; its modes and weights are left as they are.
        samples: The samples.
        places: Positions on each image at which maps of all stages are read and concatenated
            (Hariharan et al., 2015, arXiv:1411.5752), for dense tasks; 0 reads vectors.
        within: Fractions of height and width, around the centre, that the positions lie in.
        batch_size: Samples in one pass.
        cache: Folder of the cache; by default ``features`` in that of the data.

    Raises:
        ValueError: If positions are asked for and the backbone has no maps.
    """
    folder = default_cache() / "features" if cache is None else cache
    try:
        stored = folder / f"{_key(network, samples, places, within)}.safetensors"
    except NoHashError as error:
        _warn_once(f"Features are computed anew in each call and not cached: {error}.")
        return _compute(network, samples, places, within, batch_size)
    found = _read(stored)
    if found is None:
        found = _compute(network, samples, places, within, batch_size)
        _write(stored, found)
    return found


@torch.no_grad()
def _compute(
    network: Network,
    samples: Samples,
    places: int,
    within: tuple[float, float],
    batch_size: int,
) -> Extracted:
    heads = network.heads
    features: list[Tensor] = []
    where: list[Tensor] = []
    outputs: dict[str, list[Tensor]] = {name: [] for name in heads}
    network.backbone.to(network.device)
    for head in heads.values():
        head.to(network.device)
    with evaluating(network.backbone, *heads.values()):
        for rows in torch.split(torch.arange(len(samples)), batch_size):
            items = samples.items(rows)
            inputs = network.read(items)
            inputs = on_each(lambda part: part.to(network.device), inputs)
            if places:
                spots = _around_centre(positions(rows, places), torch.tensor(within))
                shown = _around_centre(spots, 1 / torch.tensor(seen_of(items[0], inputs)))
                features.append(at_positions(network.backbone, inputs, shown).float().cpu())
                where.append(spots)
                continue
            vector = network.backbone(inputs)
            features.append(vector.float().cpu())
            for name, head in heads.items():
                outputs[name].append(head(vector).float().cpu())
    joined = {name: torch.cat(parts) for name, parts in outputs.items() if parts}
    return Extracted(torch.cat(features), joined, torch.cat(where) if where else None)


def positions(rows: Tensor, count: int) -> Tensor:
    """Return the positions at which an image is read, the same in every run.

    Args:
        rows: Number of each image ``(N,)``.
        count: Positions per image ``P``.

    Returns:
        Fractions of height and width ``(N, P, 2)``, from 0 to below 1.
    """
    found = []
    for row in rows.tolist():
        generator = torch.Generator().manual_seed(0x5EED + row)
        found.append(torch.rand(count, 2, generator=generator))
    return torch.stack(found)


def _around_centre(places: Tensor, factors: Tensor) -> Tensor:
    return 0.5 + (places - 0.5) * factors


def seen_of(item: Any, read: Any) -> tuple[float, float]:  # noqa: ANN401 - of any modality
    """Return the fractions of an image's height and width that a network sees.

    An image of other proportions than the network's inputs is cropped around its centre.

    Args:
        item: The image ``(C, H, W)``; all of anything else is seen.
        read: The network's inputs ``(..., h, w)``.
    """
    if not (isinstance(item, Tensor) and isinstance(read, Tensor) and item.ndim == _IMAGE):
        return 1.0, 1.0
    (height, width), (high, wide) = item.shape[-2:], read.shape[-2:]
    return min(1.0, width * high / (wide * height)), min(1.0, height * wide / (high * width))


def at_positions(backbone: nn.Module, inputs: Inputs, places: Tensor) -> Tensor:
    """Return the maps of all stages, concatenated, at positions of each image.

    Args:
        backbone: A network with maps.
        inputs: Images ``(N, C, H, W)``.
        places: ``(N, P, 2)``.

    Returns:
        ``(N, P, D)``, D the sum of the maps' channels.

    Raises:
        ValueError: If the network has no maps.
    """
    if not getattr(backbone, "map_channels", None):
        raise ValueError(
            f"The target has dense tasks, and {type(backbone).__name__} gives no maps; take "
            "sources with maps, such as ResNets."
        )
    # grid_sample takes x before y, from -1 to 1
    grid = (2 * places.flip(-1) - 1).to(next(backbone.parameters()).device)
    found = [
        functional.grid_sample(each.float(), grid[:, None], mode="nearest", align_corners=False)
        for each in backbone.maps(inputs)  # type: ignore[operator]  # a foreign network's method
    ]
    return torch.cat([each[:, :, 0].transpose(1, 2) for each in found], dim=2)


def _key(network: Network, samples: Samples, places: int, within: tuple[float, float]) -> str:
    parts = [
        weights_hash(network.backbone, *network.heads.values()),
        *sorted(network.heads),
        network.read_as,
        samples.fingerprint,
        f"{places} {within}" if places else "",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning(text)


def _read(stored: Path) -> Extracted | None:
    if not stored.is_file():
        return None
    try:
        found = safetensors.torch.load(stored.read_bytes())
        features = found.pop("features")
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
        _log.warning("Computing again: the cached features %s are damaged (%s).", stored, error)
        return None
    places = found.pop("places", None)
    outputs = {name.removeprefix(_OUTPUTS): value for name, value in found.items()}
    return Extracted(features, outputs, places)


def _write(stored: Path, found: Extracted) -> None:
    tensors = {f"{_OUTPUTS}{name}": value for name, value in found.outputs.items()}
    tensors["features"] = found.features
    if found.places is not None:
        tensors["places"] = found.places
    content = safetensors.torch.save({name: v.contiguous() for name, v in tensors.items()})
    try:
        write_whole(stored, [content])
    except OSError as error:
        _log.warning("Features are not cached: %s.", error)
