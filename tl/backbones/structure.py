"""What a network from a library is made of: its stages and its stem."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

# Children that are a row of stages or blocks, and are looked into.
_ROWS = ("features", "encoder", "stages", "blocks", "layers", "layer", "trunk_output")
# Children behind the last stage; what they keep belongs to it.
_TOPS = ("fc", "head", "heads", "classifier", "pooler")
_STEM_KERNEL = 3
_RGB = 3


def stages_by_structure(network: nn.Module) -> dict[str, list[nn.Module]]:
    """Sort a network's parts into stages, by how the libraries build them.

    The first part is the stem, up to the first block. Each further part that has layers within,
    such as ``layer1`` of a ResNet or a block of a transformer, is a stage; so is what follows a
    pooling in a plain row of layers (VGG). Single layers, such as a last norm, belong to the stage
    before them.

    Args:
        network: A network without its classifier.

    Returns:
        Modules with parameters by stage from the stem to the top: ``stem``, then the parts' own
        names, ``stage<N>`` where that is a number.
    """
    stages: dict[str, list[nn.Module]] = {"stem": []}
    current = "stem"
    pooled = False
    for name, part in _parts(network):
        if isinstance(part, nn.MaxPool2d | nn.AvgPool2d):
            pooled = True
            continue
        if next(part.parameters(), None) is None:
            continue
        has_layers = any(next(child.parameters(), None) is not None for child in part.children())
        starts = has_layers or pooled
        if starts and name not in _TOPS and stages["stem"] and _is_layered(stages["stem"]):
            current = f"stage{name}" if name.isdigit() else name
            while current in stages:
                current += "_"
            stages[current] = []
        stages[current].append(part)
        pooled = False
    return stages


def _is_layered(modules: list[nn.Module]) -> bool:
    """Tell if there is more than loose parameters, such as a class token."""
    return any(not isinstance(module, nn.ParameterList) for module in modules)


def _parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a network's parts in order, rows of blocks member by member."""
    loose = list(module.parameters(recurse=False))
    if loose:
        yield "parameters", nn.ParameterList(loose)  # position embeddings, class tokens
    for name, child in module.named_children():
        if name in _ROWS and not isinstance(child, nn.Conv2d):
            yield from _parts(child)
        else:
            yield name, child


def adapt_stem(network: nn.Module) -> str:
    """Have a network begin without halving the image: stride 1, a 3x3 kernel, no max-pooling.

    An ImageNet stem shrinks 32x32 images to 8x8 before the first block; one that does not halve
    them stays as it is. Of a kernel larger than
    3x3 the middle stays: its filters keep their orientation and colour, and the layers behind
    find the channels that they know, which a random kernel in that place would not give. This is a
    choice of ours, no paper's; He et al. (2016, arXiv:1512.03385, section 4.2) begin like this on
    CIFAR, from random weights.

    Args:
        network: A network whose first convolution has a stride of 1 or 2 and an odd kernel of 3 or
            more; changed in place.

    Returns:
        What was done, in words.

    Raises:
        ValueError: If the network begins in another way, as those with patches do.
    """
    convolutions = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    name, first = convolutions[0] if convolutions else ("", None)
    if (
        first is None
        or first.stride not in ((1, 1), (2, 2))
        or first.kernel_size[0] != first.kernel_size[1]
        or first.kernel_size[0] < _STEM_KERNEL
        or first.kernel_size[0] % 2 == 0
    ):
        found = f"begins with {first}" if first is not None else "has no convolution"
        raise ValueError(
            f"`stem='32x32'` is for networks that begin with a convolution of stride 1 or 2; "
            f"{type(network).__name__} {found}. Set `stem: keep` and an `image_size`, such as 224."
        )
    size = first.kernel_size[0]
    halves = first.stride == (2, 2)
    if not halves and size == _STEM_KERNEL:
        return f"{name} as it is, made for small images"
    said = f"{name} {size}x{size}, stride {first.stride[0]}"
    if size > _STEM_KERNEL:
        edge = (size - _STEM_KERNEL) // 2
        middle = first.weight.detach()[:, :, edge:-edge, edge:-edge]
        first.weight = nn.Parameter(middle.clone(memory_format=torch.contiguous_format))
        first.kernel_size = (_STEM_KERNEL, _STEM_KERNEL)
        if first.padding != (0, 0):
            first.padding = (1, 1)
    first.stride = (1, 1)
    said += " -> " + ("the kernel's middle 3x3, " if size > _STEM_KERNEL else "") + "stride 1"
    # behind a stride of 1 it is a stage's own, as in VGG
    if halves and (pool := _first_pooling(network, after=first)):
        network.set_submodule(pool, nn.Identity())
        said += ", no max-pooling"
    return said


def _first_pooling(network: nn.Module, after: nn.Conv2d) -> str | None:
    """Name the max-pooling between the first convolution and the first block, if there is one."""
    behind = False
    modules: list[tuple[str, nn.Module]] = list(network.named_modules())
    for name, module in modules:
        if module is after:
            behind = True
        elif behind and isinstance(module, nn.MaxPool2d):
            return name
        elif behind and isinstance(module, nn.Conv2d) and not _is_stem(name):
            return None
    return None


def _is_stem(name: str) -> bool:
    """Tell if a further convolution still belongs to a stem of several."""
    return name.startswith(("conv1.", "stem", "conv2d_"))


def change_channels(network: nn.Module, in_channels: int, *, average: bool) -> str:
    """Have a network of colour images take images of other channels.

    Args:
        network: A network whose first convolution reads red, green and blue; changed in place.
        in_channels: Channels of the images.
        average: Give each channel the mean kernel of the three, times ``3 / in_channels``: an
            image with equal channels gives what it gives in grey. Otherwise the kernels are random,
            normal with the standard deviation that they had.

    Returns:
        What was done, in words; empty where nothing was.

    Raises:
        ValueError: If no convolution reads three channels.
    """
    if in_channels == _RGB:
        return ""
    convolutions = ((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    colour = ((n, m) for n, m in convolutions if m.in_channels == _RGB and m.groups == 1)
    name, layer = next(colour, ("", None))
    if layer is None:
        raise ValueError(
            f"`in_channels={in_channels}` needs a convolution of 3 channels to replace, which "
            f"{type(network).__name__} does not have."
        )
    old = layer.weight.detach()
    new = old.mean(1, keepdim=True).expand(-1, in_channels, -1, -1) * (_RGB / in_channels)
    if not average:
        new = torch.randn_like(new) * old.std()
    layer.weight = nn.Parameter(new.clone(memory_format=torch.contiguous_format))
    layer.in_channels = in_channels
    for module in network.modules():  # transformers compares it with the images
        if getattr(module, "num_channels", None) == _RGB:
            module.num_channels = in_channels  # type: ignore[assignment]
    how = "the mean kernel of red, green and blue" if average else "random kernels"
    return f", {name} for {in_channels} channels ({how})"
