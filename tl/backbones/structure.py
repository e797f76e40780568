"""Structure of the libraries' networks: stages, stem, input channels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

# Children that are sequences of stages or blocks, to descend into.
_ROWS = ("features", "encoder", "stages", "blocks", "layers", "layer", "trunk_output")
# Children after the last stage; their parameters belong to it.
_TOPS = ("fc", "head", "heads", "classifier", "pooler")
_STEM = ("conv1.", "stem", "conv2d_")  # beginnings of its later convolutions
_STEM_KERNEL = 3
_RGB = 3


def stages_by_structure(network: nn.Module) -> dict[str, list[nn.Module]]:
    """Group a network's modules into stages, following the libraries' conventions.

    Everything before the first block is the stem. Each later part that contains layers, such as
    ``layer1`` of a ResNet or a block of a transformer, is a stage; in a plain sequence of layers
    (VGG), each pooling starts a new one. A single layer, such as a final norm, belongs to the
    stage before it.

    Args:
        network: A network without its classifier.

    Returns:
        Modules with parameters by stage: ``stem``, then the parts' own names, or ``stage<N>`` for
        a part named by a number.
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
        # more than loose parameters, such as a class token
        layered = any(not isinstance(module, nn.ParameterList) for module in stages["stem"])
        if starts and name not in _TOPS and layered:
            current = f"stage{name}" if name.isdigit() else name
            while current in stages:
                current += "_"
            stages[current] = []
        stages[current].append(part)
        pooled = False
    return stages


def _parts(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield a network's parts in order, sequences of blocks one by one."""
    loose = list(module.parameters(recurse=False))
    if loose:
        yield "parameters", nn.ParameterList(loose)  # position embeddings, class tokens
    for name, child in module.named_children():
        if name in _ROWS and not isinstance(child, nn.Conv2d):
            yield from _parts(child)
        else:
            yield name, child


def adapt_stem(network: nn.Module) -> str:
    """Stop a stem from downsampling: stride 1, a 3x3 kernel, no max-pooling.

    An ImageNet stem shrinks 32x32 images to 8x8 before the first block. A stem that does not
    downsample is left alone. A kernel larger than 3x3 is cropped to its middle 3x3: its filters
    keep their orientation and colour, so the pretrained layers after it still receive the channels
    they were trained on, unlike with a random kernel. This is our own choice; He et al. (2016,
    arXiv:1512.03385, section 4.2) use such a stem on CIFAR, with random weights.

    Args:
        network: A network whose first convolution has a stride of 1 or 2 and an odd kernel of 3 or
            more; changed in place.

    Returns:
        What was done, in words.

    Raises:
        ValueError: If the network has another kind of stem, such as patches.
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
        return f"{name} unchanged, already made for small images"
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
    """Return the name of the max-pooling between the first convolution and the first block."""
    behind = False
    modules: list[tuple[str, nn.Module]] = list(network.named_modules())
    for name, module in modules:
        if module is after:
            behind = True
        elif behind and isinstance(module, nn.MaxPool2d):
            return name
        elif behind and isinstance(module, nn.Conv2d) and not name.startswith(_STEM):
            return None
    return None


def change_channels(network: nn.Module, in_channels: int, *, average: bool) -> str:
    """Replace the first convolution by one for another number of image channels.

    Args:
        network: A network whose first convolution reads red, green and blue; changed in place.
        in_channels: Channels of the images.
        average: Use the mean of the three kernels, times ``3 / in_channels``, for every channel:
            an image with equal channels then has the features of the same grey image. Otherwise
            draw the kernels from a normal distribution with their old standard deviation.

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
