"""Batch norm with separate statistics for each data source."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.backbones.norms import runs_its_children
from tl.private.torch import BatchNorm

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class BatchNormThen2d(nn.BatchNorm2d):
    """Batch norm that runs its children, such as an activation, on what it gives."""

    only_runs_children = True

    def forward(self, images: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)``, and run the children."""
        images = super().forward(images)
        for child in self.children():
            images = child(images)
        return images


class SourceBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with shared scale and shift, and running statistics per source.

    The statistics part of domain-specific batch normalisation (Chang et al., 2019,
    arXiv:1906.03950, equation 3): each source is normalised with its own mean and variance, in
    training and in evaluation.

    In a state dict, ``running_mean`` and ``running_var`` are those of an equal mixture of the
    sources, so that the weights also load into an ordinary network.

    Args:
        num_features: Channels.
        sources: Names of the sources.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running statistics.

    Attributes:
        plain: The ordinary layer that it replaces; inputs may have any dimensions.
    """

    plain: type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d] = nn.BatchNorm2d

    def __init__(
        self, num_features: int, sources: Sequence[str], eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(num_features, eps, momentum)
        self.sources = tuple(sources)
        self.source: str | None = None
        for name in self.sources:
            self.register_buffer(f"running_mean_{name}", torch.zeros(num_features))
            self.register_buffer(f"running_var_{name}", torch.ones(num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise activations ``(N, C, ...)`` of the current source."""
        if self.source is None:
            raise RuntimeError("Wrap the forward pass in `source_statistics` to name the source.")
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        images = functional.batch_norm(
            images,
            getattr(self, f"running_mean_{self.source}"),
            getattr(self, f"running_var_{self.source}"),
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )
        for child in self.children():
            images = child(images)
        return images

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:  # noqa: ANN401
        means = torch.stack([getattr(self, f"running_mean_{s}") for s in self.sources])
        variances = torch.stack([getattr(self, f"running_var_{s}") for s in self.sources])
        if self.running_mean is not None and self.running_var is not None:
            self.running_mean.copy_(means.mean(0))
            self.running_var.copy_(variances.mean(0) + means.var(0, unbiased=False))
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def adopt(self, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        """Copy another layer's scale, shift and statistics, the latter for every source."""
        self.plain = type(layer) if type(layer) in _PLAIN else BatchNormThen2d
        for name, child in layer.named_children():
            self.add_module(name, child)
        self.load_state_dict(layer.state_dict(), strict=False)
        self.spread()

    def spread(self, sources: Sequence[str] | None = None) -> None:
        """Reset sources, by default all, to the shared running statistics."""
        for name in self.sources if sources is None else sources:
            getattr(self, f"running_mean_{name}").copy_(self.running_mean)
            getattr(self, f"running_var_{name}").copy_(self.running_var)


def per_source_statistics(backbone: nn.Module, sources: Sequence[str]) -> nn.Module:
    """Replace every batch norm of 1 to 3 dimensions by one with running statistics per source.

    Args:
        backbone: A network; changed in place, with its weights.
        sources: Names of the sources.

    Returns:
        The network.

    Raises:
        ValueError: If the network has no such layer or others besides, or one without scale, shift,
            momentum or running statistics.
    """
    layers = [
        (parent, name, child)
        for parent in backbone.modules()
        for name, child in parent.named_children()
        if isinstance(child, _PLAIN) and (type(child) in _PLAIN or runs_its_children(child))
    ]
    replaced = {id(layer) for _, _, layer in layers}
    other = [m for m in backbone.modules() if isinstance(m, BatchNorm) and id(m) not in replaced]
    if layers and other:
        raise ValueError(
            "`batch_norm='per_source_statistics'` keeps the statistics of torch's own BatchNorm "
            f"layers, and {type(backbone).__name__} has {len(other)} more, such as "
            f"{type(other[0]).__name__}; choose another `batch_norm`."
        )
    if not layers:
        raise ValueError(
            "`batch_norm='per_source_statistics'` needs a backbone with BatchNorm layers, but "
            f"{type(backbone).__name__} has none."
        )
    for parent, name, layer in layers:
        if not layer.affine or layer.momentum is None or not layer.track_running_stats:
            raise ValueError(
                "`batch_norm='per_source_statistics'` needs layers with scale, shift, momentum and "
                f"running statistics, got {layer}."
            )
        new = SourceBatchNorm2d(layer.num_features, sources, layer.eps, layer.momentum)
        new.adopt(layer)
        setattr(parent, name, new)
    return backbone


def without_sources(backbone: nn.Module) -> nn.Module:
    """Return a network with ordinary batch norm for the mixture of the sources.

    Returns:
        The network itself if it has no statistics per source, else a copy with the same parameter
        names.
    """
    if not any(isinstance(module, SourceBatchNorm2d) for module in backbone.modules()):
        return backbone
    plain = copy.deepcopy(backbone)
    for parent in list(plain.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, SourceBatchNorm2d):
                new = layer.plain(layer.num_features, layer.eps, layer.momentum)
                for child, module in layer.named_children():
                    new.add_module(child, module)
                new.to(layer.weight.device, layer.weight.dtype)
                mixture = layer.state_dict()
                new.load_state_dict({key: mixture[key] for key in new.state_dict()})
                setattr(parent, name, new)
    return plain


def spread_missing(backbone: nn.Module, found: Container[str]) -> None:
    """Give each source without statistics of its own the shared ones.

    Args:
        backbone: A network into which weights were loaded; changed in place.
        found: Names in the backbone of what was loaded.
    """
    for name, layer in backbone.named_modules():
        if isinstance(layer, SourceBatchNorm2d):
            layer.spread([s for s in layer.sources if f"{name}.running_mean_{s}" not in found])


@contextmanager
def source_statistics(backbone: nn.Module, source: str) -> Iterator[None]:
    """Normalise with one source's statistics within the context."""
    layers = [m for m in backbone.modules() if isinstance(m, SourceBatchNorm2d)]
    for layer in layers:
        layer.source = source
    try:
        yield
    finally:
        for layer in layers:
            layer.source = None
