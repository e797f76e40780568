"""Wide residual networks."""

from torch import Tensor, nn
from torch.nn import functional

from tl.backbones.base import check_in_channels
from tl.backbones.residual import ResidualBackbone


class WideBlock(nn.Module):
    """Pre-activation block: twice batch norm, ReLU, 3x3 convolution; dropout before the second.

    Args:
        in_channels: Input channels.
        channels: Output channels.
        stride: Stride of the first convolution.
        dropout: Probability of dropping an activation between the convolutions.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False)
            if stride != 1 or in_channels != channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, channels, H / stride, W / stride)``."""
        activated = functional.relu(self.bn1(x))
        # A convolved shortcut starts from the activated input, the identity from the raw one.
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(activated)
        out: Tensor = functional.relu(self.bn2(self.conv1(activated)))
        out = self.conv2(self.dropout(out))
        return out + shortcut


class WideResNet(ResidualBackbone):
    """WRN-depth-widen_factor (Zagoruyko & Komodakis, 2016, arXiv:1605.07146).

    One 3x3 convolution, three stages of ``n = (depth - 4) / 6`` pre-activation blocks with
    ``16k``, ``32k`` and ``64k`` channels, batch norm and ReLU; ``64k`` features. The defaults
    are the paper's best network, WRN-28-10; WRN-16-4 is 13 times smaller.

    Args:
        depth: Layers with weights, ``6n + 4``: 16, 22, 28 or 40 in the paper.
        widen_factor: ``k``, the width relative to the thin ResNet.
        dropout: Probability of dropping an activation inside a block; the paper's CIFAR runs
            use 0 or 0.3.
        in_channels: Channels of the images.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        dropout: float = 0.0,
        in_channels: int = 3,
    ) -> None:
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise ValueError(f"`depth` must be 6n + 4 (10, 16, 22, 28, 34, 40, ...), got {depth}.")
        if widen_factor < 1:
            raise ValueError(f"`widen_factor` must be at least 1, got {widen_factor}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` must be at least 0 and below 1, got {dropout}.")
        check_in_channels(in_channels)
        super().__init__()
        widths = [16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.num_features = widths[-1]
        self.map_channels = tuple(widths)
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, 16, kernel_size=3, padding=1, bias=False)
        self.layer1 = _stage(16, widths[0], blocks, 1, dropout)
        self.layer2 = _stage(widths[0], widths[1], blocks, 2, dropout)
        self.layer3 = _stage(widths[1], widths[2], blocks, 2, dropout)
        self.bn1 = nn.BatchNorm2d(widths[2])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, images: Tensor) -> Tensor:
        """Return 16 channels as high and wide as the images ``(N, in_channels, H, W)``."""
        out: Tensor = self.conv1(images)
        return out

    def rows(self) -> list[nn.Sequential]:
        """Return the stages: ``16k``, ``32k``, ``64k`` channels at 1, 1/2, 1/4 of the size."""
        return [self.layer1, self.layer2, self.layer3]

    def finish(self, top: Tensor) -> Tensor:
        """Return the last map: after the final norm and ReLU."""
        return functional.relu(self.bn1(top))

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the stages: ``stem``, ``layer1`` to ``layer3``; the last has the final norm."""
        return {**super().stages(), "stem": [self.conv1], "layer3": [self.layer3, self.bn1]}


def _stage(
    in_channels: int, channels: int, blocks: int, stride: int, dropout: float
) -> nn.Sequential:
    """Stack blocks; the first block strides and widens."""
    first = WideBlock(in_channels, channels, stride, dropout)
    rest = (WideBlock(channels, channels, 1, dropout) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
