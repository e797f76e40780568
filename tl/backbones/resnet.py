"""ResNet-18, 34 and 50 for small or for large images."""

from typing import Literal, get_args

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from tl.backbones.base import Backbone

Stem = Literal["cifar", "imagenet"]


class _ResNet(ResNet, Backbone):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ResNet without its classifier, with a choice of stem."""

    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], stem: Stem) -> None:
        if stem not in get_args(Stem):
            raise ValueError(f"`stem` must be one of {', '.join(get_args(Stem))}, got {stem!r}.")
        super().__init__(block, layers)
        self.num_features = 512 * block.expansion
        self.fc = nn.Identity()
        if stem == "cifar":
            # 32x32 images would reach layer1 as 8x8 maps through the 7x7 stride-2 stem.
            self.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
            self.maxpool = nn.Identity()

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts: ``stem``, ``layer1`` to ``layer4``."""
        return {
            "stem": [self.conv1, self.bn1],
            "layer1": [self.layer1],
            "layer2": [self.layer2],
            "layer3": [self.layer3],
            "layer4": [self.layer4],
        }


class ResNet18(_ResNet):
    """ResNet-18 (He et al., 2016, arXiv:1512.03385), 512 features.

    Blocks and parameter names are torchvision's, so its weights fit without renaming.

    Args:
        stem: ``cifar``: one 3x3 convolution, stride 1, no pooling, for images of about 32x32;
            ``imagenet``: torchvision's 7x7 convolution, stride 2, and max-pooling.
    """

    def __init__(self, stem: Stem = "cifar") -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], stem)


class ResNet34(_ResNet):
    """ResNet-34 (He et al., 2016, arXiv:1512.03385), 512 features.

    Blocks and parameter names are torchvision's, so its weights fit without renaming.

    Args:
        stem: ``cifar``: one 3x3 convolution, stride 1, no pooling, for images of about 32x32;
            ``imagenet``: torchvision's 7x7 convolution, stride 2, and max-pooling.
    """

    def __init__(self, stem: Stem = "cifar") -> None:
        super().__init__(BasicBlock, [3, 4, 6, 3], stem)


class ResNet50(_ResNet):
    """ResNet-50 (He et al., 2016, arXiv:1512.03385), 2048 features.

    Blocks and parameter names are torchvision's, so its weights fit without renaming. As there,
    a block strides in its 3x3 convolution ("v1.5"), not in the first 1x1 one as in the paper.

    Args:
        stem: ``cifar``: one 3x3 convolution, stride 1, no pooling, for images of about 32x32;
            ``imagenet``: torchvision's 7x7 convolution, stride 2, and max-pooling.
    """

    def __init__(self, stem: Stem = "cifar") -> None:
        super().__init__(Bottleneck, [3, 4, 6, 3], stem)
