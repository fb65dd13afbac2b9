"""MobileNet V2: Sandler et al., "Inverted Residuals and Linear Bottlenecks", 2018.

Names and shapes of the parameters are torchvision's.
"""

from __future__ import annotations

from collections.abc import Iterator

from juanji import nn
from juanji.tensors import Tensor
from juanji.zoo.classifier import Classifier, initialise
from juanji.zoo.registry import register

#: Table 2 of the paper: expansion, channels, blocks, stride of the first block.
BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels`, but never more than a tenth below it.

    >>> divisible(32 * 0.75), divisible(33.0), divisible(11.0)
    (24, 32, 16)
    """
    result = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return result + divisor if result < 0.9 * channels else result


def normalised(ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    return nn.Sequential(
        nn.Conv2d(ins, outs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Widen by 1x1, look around by depthwise 3x3, narrow by 1x1 without activation; added where shapes agree."""

    def __init__(self, ins: int, outs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = ins * expansion
        self.added = stride == 1 and ins == outs
        layers: list[nn.Module] = [] if expansion == 1 else [normalised(ins, hidden, 1)]
        layers += [
            normalised(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outs, 1, bias=False),
            nn.BatchNorm2d(outs),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ins, H, W) to (N, outs, H / stride, W / stride)."""
        out: Tensor = self.conv(x)
        return x + out if self.added else out


@register("mobilenet_v2", input_size=224)
class MobileNetV2(Classifier):
    """Inverted residuals with a linear bottleneck.

    Args:
        num_classes: scores; 0 for features only.
        in_channels: planes of the input.
        width_mult: factor on all widths.
        dropout: in front of the last layer.

    >>> import juanji as jj
    >>> sum(p.numel() for p in MobileNetV2().parameters())
    3504872
    """

    classifier_name = "classifier.1"

    def __init__(
        self, num_classes: int = 1000, in_channels: int = 3, width_mult: float = 1.0, dropout: float = 0.2
    ) -> None:
        super().__init__()
        channels = divisible(32 * width_mult)
        last = divisible(1280 * max(1.0, width_mult))
        self.num_classes, self.num_features = num_classes, last
        layers: list[nn.Module] = [normalised(in_channels, channels, 3, 2)]
        for expansion, width, count, stride in BLOCKS:
            outs = divisible(width * width_mult)
            for i in range(count):
                layers.append(InvertedResidual(channels, outs, stride if i == 0 else 1, expansion))
                channels = outs
        layers.append(normalised(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(last, num_classes) if num_classes else nn.Identity()
        )
        initialise(self)

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The maps before each halving of the size, then the features."""
        for layers in self.named_stages().values():
            for layer in layers:
                x = layer(x)
            yield x

    def named_stages(self) -> dict[str, list[nn.Module]]:
        """The layers up to each halving of the size; the rest."""
        layers, ends = list(self.features), (0, 2, 4, 7, 14, len(self.features))
        return {f"stage{i + 1}": layers[ends[i] : ends[i + 1]] for i in range(5)}

    def pooled(self, x: Tensor) -> Tensor:
        """(N, num_features) of feature maps: their mean, with dropout."""
        flat: Tensor = self.classifier[0](super().pooled(x))
        return flat
