"""Weights of one network for a backbone with a stream for each task."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from tl.backbones.streams import StreamsBackbone
from tl.transfer.names import unwrapped
from tl.transfer.provenance import TransferReport


def holds_streams(names: Collection[str], backbone: StreamsBackbone) -> bool:
    """Return whether a file has all that the streams of a backbone are made of.

    Args:
        names: Names in the file.
        backbone: The backbone.
    """
    there = {spelling for name in names for spelling in unwrapped(name)}
    return {name for name, _ in backbone.named_parameters()} <= there


def spread(backbone: StreamsBackbone, report: TransferReport) -> TransferReport:
    """Copy the weights that its first network has got to the others.

    Args:
        backbone: The backbone; changed in place.
        report: What was loaded into the first network.

    Returns:
        What was loaded into the backbone, by its names.
    """
    first, *others = backbone.networks()
    for other in others:
        other.load_state_dict(first.state_dict())
    names = {id(module): name for name, module in backbone.named_modules()}
    prefixes = [f"{names[id(network)]}." for network in (first, *others)]
    loaded = [f"{prefix}{name}" for prefix in prefixes for name in report.loaded]
    found = set(loaded)
    sizes = {k: v.numel() for k, v in backbone.state_dict().items() if isinstance(v, Tensor)}
    left = {name: size for name, size in sizes.items() if name not in found}
    return replace(
        report,
        loaded=tuple(loaded),
        reinitialised=tuple(left),
        values={
            **report.values,
            "loaded": {name: sizes[name] for name in loaded},
            "re-initialised": left,
        },
    )
