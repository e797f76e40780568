"""Decoders: from the maps of a backbone's stages to a map of the size of the images."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def _block(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    """Return convolution, batch norm and ReLU that keep the resolution."""
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _to_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    if maps.shape[2:] == tuple(size):
        return maps
    return functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


class FeaturePyramid(nn.Module):
    """A light decoder: add the stages from the top down, and apply two blocks to the sum.

    A 1x1 convolution maps each stage to `width` channels; each is upsampled bilinearly to the next
    and added (Lin et al., 2017, arXiv:1612.03144). Two 3x3 convolutions with batch norm and
    ReLU and a 1x1 convolution follow at the backbone's highest resolution.

    Args:
        channels: Channels of the maps, from the highest resolution to the lowest.
        outputs: Output channels.
        width: Hidden channels.
    """

    def __init__(self, channels: Sequence[int], outputs: int, width: int = 32) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.blocks = nn.Sequential(_block(width, width, 3), _block(width, width, 3))
        self.last = nn.Conv2d(width, outputs, 1)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return ``(N, outputs, H, W)``.

        Args:
            maps: ``(N, C_s, H_s, W_s)`` of each stage.
            size: ``H`` and ``W``.
        """
        total: Tensor | None = None
        for lateral, each in reversed(list(zip(self.lateral, maps, strict=True))):
            here = lateral(each)
            total = here if total is None else here + _to_size(total, here.shape[2:])
        return _to_size(self.last(self.blocks(total)), size)


class DeepLab(nn.Module):
    """Parallel dilated convolutions on the last map, as in DeepLabv3 without its backbone.

    A 1x1 and a 3x3 convolution combine a 1x1 convolution, three 3x3 ones with `rates` and the mean
    over the image (Chen et al., 2017, arXiv:1706.05587). The last map should have an eighth of the
    images' resolution, as from a backbone with ``output_stride=8``.

    Args:
        channels: Channels of the maps; only the last one is used.
        outputs: Output channels.
        width: Hidden channels.
        rates: Dilations; the default is for a stride of 8.
    """

    def __init__(
        self,
        channels: Sequence[int],
        outputs: int,
        width: int = 256,
        rates: Sequence[int] = (12, 24, 36),
    ) -> None:
        super().__init__()
        first = channels[-1]
        self.branches = nn.ModuleList(
            [_block(first, width, 1), *(_block(first, width, 3, rate) for rate in rates)]
        )
        self.mean = _block(first, width, 1)
        self.project = nn.Sequential(
            _block((len(rates) + 2) * width, width, 1), nn.Dropout(0.5), _block(width, width, 3)
        )
        self.last = nn.Conv2d(width, outputs, 1)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return ``(N, outputs, H, W)``.

        Args:
            maps: ``(N, C_s, H_s, W_s)`` of each stage.
            size: ``H`` and ``W``.

        Raises:
            ValueError: If the batch norm of the image's mean would train on a single sample.
        """
        top = maps[-1]
        if self.training and len(top) == 1:
            raise ValueError(
                "The DeepLab head normalises one vector per image over the batch, which needs 2 "
                "images or more to train, got 1. Increase `batch_size`, or use the decoder "
                "tl.tasks.decoders.FeaturePyramid."
            )
        mean = self.mean(top.mean((2, 3), keepdim=True)).expand(-1, -1, *top.shape[2:])
        joined = torch.cat([*(branch(top) for branch in self.branches), mean], 1)
        return _to_size(self.last(self.project(joined)), size)


def decoder_class(path: str) -> type[nn.Module]:
    """Return the class of a decoder.

    Args:
        path: Its class path. It is called as ``decoder(channels, outputs)``, with the width as a
            third argument if the task sets it.

    Raises:
        ValueError: If there is no such ``nn.Module`` class.
    """
    module, _, name = path.rpartition(".")
    reason = "it names no module"
    found = None
    if module and not module.startswith("."):
        try:
            found = getattr(importlib.import_module(module), name, None)
            reason = f"module {module!r} has no attribute {name!r}"
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise  # an import in that module
            reason = str(error)
    if found is None:
        raise ValueError(
            f"`decoder` must be the path of a class, such as tl.tasks.decoders.FeaturePyramid, got "
            f"{path!r}: {reason}."
        )
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(  # noqa: TRY004 - the path is of the right type
            f"`decoder` must be the path of a class of networks, got {path!r}."
        )
    return found
