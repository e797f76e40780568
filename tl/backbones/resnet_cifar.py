"""The thin ResNets for CIFAR: ResNet-20, 32, 44 and 56."""

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from tl.backbones.base import check_in_channels
from tl.backbones.residual import ResidualBackbone


class ZeroPadShortcut(nn.Module):
    """Shortcut without parameters: every second pixel, new channels zero ("option A").

    The zeros are split before and behind the old channels. The paper leaves the place open; this
    is where the common PyTorch weights of these networks expect them.

    Args:
        new_channels: How many channels to add; an even number.
    """

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.padding = new_channels // 2

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to ``(N, C + new_channels, H / 2, W / 2)``."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))


class ResNetCifar(ResidualBackbone):
    """ResNet for 32x32 images (He et al., 2016, arXiv:1512.03385, section 4.2), 64 features.

    One 3x3 convolution, then three stages of ``n = (depth - 2) / 6`` blocks with 16, 32 and 64
    channels and shortcuts without parameters. Parameter names as in torchvision.

    Args:
        depth: Layers with weights, ``6n + 2``, including the linear head.
        in_channels: Channels of the images.
    """

    map_channels = (16, 32, 64)

    def __init__(self, depth: int, in_channels: int = 3) -> None:
        blocks, rest = divmod(depth - 2, 6)
        if blocks < 1 or rest:
            raise ValueError(f"`depth` must be 6n + 2 (8, 14, 20, 26, 32, ...), got {depth}.")
        check_in_channels(in_channels)
        super().__init__()
        self.num_features = 64
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, 16, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks)
        self.layer3 = _stage(32, 64, blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # fan_out: as the authors' own code and torchvision do
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, images: Tensor) -> Tensor:
        """Return 16 channels as high and wide as the images ``(N, in_channels, H, W)``."""
        return functional.relu(self.bn1(self.conv1(images)))

    def rows(self) -> list[nn.Sequential]:
        """Return the stages: 16, 32 and 64 channels at 1, 1/2 and 1/4 of the size."""
        return [self.layer1, self.layer2, self.layer3]


def _stage(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    """Stack blocks; if the channels grow, the first block halves the map."""
    if in_channels == channels:
        first = BasicBlock(in_channels, channels)
    else:
        shortcut = ZeroPadShortcut(channels - in_channels)
        first = BasicBlock(in_channels, channels, stride=2, downsample=shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))


class ResNet20(ResNetCifar):
    """ResNet-20 for 32x32 images (He et al., 2016, arXiv:1512.03385): 0.27 M parameters.

    Args:
        in_channels: Channels of the images.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(20, in_channels)


class ResNet32(ResNetCifar):
    """ResNet-32 for 32x32 images (He et al., 2016, arXiv:1512.03385): 0.46 M parameters.

    Args:
        in_channels: Channels of the images.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(32, in_channels)


class ResNet44(ResNetCifar):
    """ResNet-44 for 32x32 images (He et al., 2016, arXiv:1512.03385): 0.66 M parameters.

    Args:
        in_channels: Channels of the images.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(44, in_channels)


class ResNet56(ResNetCifar):
    """ResNet-56 for 32x32 images (He et al., 2016, arXiv:1512.03385): 0.85 M parameters.

    Args:
        in_channels: Channels of the images.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(56, in_channels)
