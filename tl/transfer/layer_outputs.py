"""Outputs of layers inside a network, kept while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from tl.backbones.base import stages_of

LayerOutputs = dict[str, list[Tensor]]
# parts of names: side branches of residual blocks, and what an adapter (peft) consists of
_BESIDE = ("downsample", "shortcut", ".base_layer", ".lora_")


@contextmanager
def outputs_of(network: nn.Module, layers: Sequence[str]) -> Iterator[LayerOutputs]:
    """Keep what layers return while the context lasts.

    Yields:
        The outputs by layer, one for each pass through it.
    """
    found: LayerOutputs = {name: [] for name in layers}

    def keep(outputs: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _layer, _inputs, output: outputs.append(output)

    handles = [
        network.get_submodule(name).register_forward_hook(keep(outputs))
        for name, outputs in found.items()
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def zeroed_channel(layer: nn.Module, channel: int) -> Iterator[None]:
    """Set one channel of what a layer returns to zero, ``(N, C, ...)``, in the context."""

    def zero(_layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, channel] = 0
        return output

    handle = layer.register_forward_hook(zero)
    try:
        yield
    finally:
        handle.remove()


def channels_of(layer: nn.Module) -> int:
    """Return how many filters a 2-D convolution has, with adapters (peft) or not; else 0."""
    layer = getattr(layer, "base_layer", layer)
    return layer.out_channels if isinstance(layer, nn.Conv2d) else 0


def last_convolutions(network: nn.Module) -> list[str]:
    """Return the name of the last 2-D convolution of each stage after the stem.

    Those of a residual block's side branch do not count. A network of one stage has no stem.
    """
    names = {id(module): name for name, module in network.named_modules()}
    stages = list(stages_of(network).values())
    found = []
    for modules in stages[1:] or stages:
        layers = [
            names[id(layer)]
            for module in modules
            for layer in module.modules()
            if channels_of(layer)
        ]
        found += [name for name in layers if not any(part in name for part in _BESIDE)][-1:]
    return found
