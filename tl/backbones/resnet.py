"""ResNet-18, 34 and 50 for small or for large images."""

from typing import Literal, get_args

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from tl.backbones.base import check_in_channels
from tl.backbones.residual import ResidualBackbone

Stem = Literal["cifar", "imagenet"]


class _ResNet(ResNet, ResidualBackbone):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ResNet without its classifier, with a choice of stem."""

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential
    maxpool: nn.Module
    relu: nn.ReLU

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        layers: list[int],
        stem: Stem,
        in_channels: int,
    ) -> None:
        if stem not in get_args(Stem):
            raise ValueError(f"`stem` must be one of {', '.join(get_args(Stem))}, got {stem!r}.")
        check_in_channels(in_channels)
        super().__init__(block, layers)
        self.num_features = 512 * block.expansion
        self.map_channels = tuple(width * block.expansion for width in (64, 128, 256, 512))
        self.in_channels = in_channels
        self.fc = nn.Identity()
        if stem == "cifar":
            # 32x32 images would reach layer1 as 8x8 maps through the 7x7 stride-2 stem.
            self.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        elif in_channels != 3:  # noqa: PLR2004 - torchvision's own
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        if stem == "cifar" or in_channels != 3:  # noqa: PLR2004 - as above
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, images: Tensor) -> Tensor:
        """Return what ``layer1`` reads, of images ``(N, in_channels, H, W)``.

        With the stem ``cifar`` it is as high and wide as the images, with ``imagenet`` a quarter;
        so is the first of the four maps, and each further one is half as high and wide.
        """
        out: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        return out

    def rows(self) -> list[nn.Sequential]:
        """Return ``layer1`` to ``layer4``."""
        return [self.layer1, self.layer2, self.layer3, self.layer4]


class ResNet18(_ResNet):
    """ResNet-18 (He et al., 2016, arXiv:1512.03385), 512 features.

    Blocks and parameter names are torchvision's, so its weights fit without renaming.

    Args:
        stem: ``cifar``: one 3x3 convolution, stride 1, no pooling, for images of about 32x32;
            ``imagenet``: torchvision's 7x7 convolution, stride 2, and max-pooling.
        in_channels: Channels of the images.
    """

    def __init__(self, stem: Stem = "cifar", in_channels: int = 3) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], stem, in_channels)


class ResNet34(_ResNet):
    """ResNet-34 (He et al., 2016, arXiv:1512.03385), 512 features.

    Blocks and parameter names are torchvision's, so its weights fit without renaming.

    Args:
        stem: ``cifar``: one 3x3 convolution, stride 1, no pooling, for images of about 32x32;
            ``imagenet``: torchvision's 7x7 convolution, stride 2, and max-pooling.
        in_channels: Channels of the images.
    """

    def __init__(self, stem: Stem = "cifar", in_channels: int = 3) -> None:
        super().__init__(BasicBlock, [3, 4, 6, 3], stem, in_channels)


class ResNet50(_ResNet):
    """ResNet-50 (He et al., 2016, arXiv:1512.03385), 2048 features.

    Blocks and parameter names are torchvision's, so its weights fit without renaming. As there,
    a block strides in its 3x3 convolution ("v1.5"), not in the first 1x1 one as in the paper.

    Args:
        stem: ``cifar``: one 3x3 convolution, stride 1, no pooling, for images of about 32x32;
            ``imagenet``: torchvision's 7x7 convolution, stride 2, and max-pooling.
        in_channels: Channels of the images.
    """

    def __init__(self, stem: Stem = "cifar", in_channels: int = 3) -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], stem, in_channels)
