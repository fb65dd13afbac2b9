"""EfficientNet-Lite 0 to 4: EfficientNet (Tan, Le, 2019) without squeeze-and-excitation, with ReLU6, for small devices.

Names and shapes of the parameters are timm's (`tf_efficientnet_lite0` and its like); as there, padding is TensorFlow's
"same", whose odd line lies after the image, and batch normalisation has eps 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from juanji import nn
from juanji.ops.contraction import conv
from juanji.tensors import Tensor
from juanji.zoo.classifier import Classifier, initialise
from juanji.zoo.mobilenet import divisible
from juanji.zoo.registry import register

#: Table 1 of the paper: blocks, kernel, stride, expansion, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
EPS = 1e-3

#: Names of `efficientnet_pytorch` and timm's: outside of blocks; inside; inside the first, which does not widen.
_FOREIGN = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FOREIGN_BLOCK = {
    False: {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    },
    True: {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
}  # fmt: skip


class Conv2dSame(nn.Conv2d):
    """A convolution to (N, out_channels, ceil(H / stride), ceil(W / stride)).

    What is missing at the borders is zeros, the odd line after the image.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        pads = []
        for size, k, s, d in zip(input.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True):
            total = max(0, (math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size)
            pads.append((total // 2, total - total // 2))
        result: Tensor = conv(
            input, weight, stride=self.stride, padding=tuple(pads), dilation=self.dilation, groups=self.groups
        )
        return result if bias is None else result + bias.reshape(-1, 1, 1)


class DepthwiseSeparable(nn.Module):
    """The first block: depthwise, then 1x1."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.added = stride == 1 and ins == outs
        self.conv_dw = Conv2dSame(ins, ins, kernel, stride, groups=ins, bias=False)
        self.bn1 = nn.BatchNorm2d(ins, eps=EPS)
        self.conv_pw = nn.Conv2d(ins, outs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs, eps=EPS)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ins, H, W) to (N, outs, H / stride, W / stride)."""
        out: Tensor = self.bn2(self.conv_pw(self.act(self.bn1(self.conv_dw(x)))))
        return x + out if self.added else out


class InvertedResidual(nn.Module):
    """Widen by 1x1, look around by a depthwise convolution, narrow by 1x1; added where shapes agree."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = divisible(ins * expansion)
        self.added = stride == 1 and ins == outs
        self.conv_pw = nn.Conv2d(ins, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden, eps=EPS)
        self.conv_dw = Conv2dSame(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden, eps=EPS)
        self.conv_pwl = nn.Conv2d(hidden, outs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outs, eps=EPS)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ins, H, W) to (N, outs, H / stride, W / stride)."""
        out: Tensor = self.act(self.bn1(self.conv_pw(x)))
        out = self.act(self.bn2(self.conv_dw(out)))
        out = self.bn3(self.conv_pwl(out))
        return x + out if self.added else out


class EfficientNetLite(Classifier):
    """A stem of 32 channels, seven stages of blocks, a 1x1 convolution to 1280, one linear layer.

    Args:
        width: factor on the channels of the stages.
        depth: factor on their blocks; the first and the last stage keep theirs.
        num_classes: scores; 0 for features only.
        in_channels: planes of the input.
        dropout: in front of the last layer.
    """

    classifier_name = "classifier"

    def __init__(
        self, width: float, depth: float, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 1280
        self.conv_stem = Conv2dSame(in_channels, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32, eps=EPS)
        self.act = nn.ReLU6(inplace=True)
        channels = 32
        groups: list[nn.Module] = []
        for at, (count, kernel, stride, expansion, base) in enumerate(STAGES):
            outs = divisible(base * width)
            repeats = count if at in (0, len(STAGES) - 1) else math.ceil(count * depth)
            blocks: list[nn.Module] = []
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(
                    DepthwiseSeparable(channels, outs, kernel, step)
                    if expansion == 1
                    else InvertedResidual(channels, outs, kernel, step, expansion)
                )
                channels = outs
            groups.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*groups)
        self.conv_head = nn.Conv2d(channels, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280, eps=EPS)
        self.drop = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(1280, num_classes) if num_classes else nn.Identity()
        initialise(self)

    def own_names(self, names: Sequence[str]) -> dict[str, str]:
        """For the names of `efficientnet_pytorch`, whose blocks are numbered through, those of timm."""
        places = [(i, j) for i, group in enumerate(self.blocks) for j in range(len(group))]
        result = {}
        for name in names:
            first, _, rest = name.partition(".")
            if first != "_blocks":
                if first in _FOREIGN:
                    result[name] = f"{_FOREIGN[first]}.{rest}"
                continue
            number, _, rest = rest.partition(".")
            layer, _, rest = rest.partition(".")
            inner = _FOREIGN_BLOCK[number == "0"]
            if number.isdecimal() and int(number) < len(places) and layer in inner:
                i, j = places[int(number)]
                result[name] = f"blocks.{i}.{j}.{inner[layer]}.{rest}"
        return result

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The maps before each halving of the size, then the features."""
        x = self.act(self.bn1(self.conv_stem(x)))
        for i, group in enumerate(self.blocks):
            x = group(x)
            if i in (0, 1, 2, 4):
                yield x
        yield self.act(self.bn2(self.conv_head(x)))

    def named_stages(self) -> dict[str, list[nn.Module]]:
        """The layers up to each halving of the size; the rest."""
        first, last = [self.conv_stem, self.bn1], [self.conv_head, self.bn2]
        blocks = list(self.blocks)
        return {
            "stage1": [*first, blocks[0]],
            "stage2": [blocks[1]],
            "stage3": [blocks[2]],
            "stage4": blocks[3:5],
            "stage5": [*blocks[5:], *last],
        }

    def pooled(self, x: Tensor) -> Tensor:
        """(N, 1280) of feature maps: their mean, with dropout."""
        flat: Tensor = self.drop(super().pooled(x))
        return flat


@register("efficientnet_lite0", input_size=224)
def efficientnet_lite0(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> EfficientNetLite:
    """EfficientNet-Lite0, for 224x224."""
    return EfficientNetLite(1.0, 1.0, num_classes, in_channels, dropout)


@register("efficientnet_lite1", input_size=240)
def efficientnet_lite1(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2) -> EfficientNetLite:
    """EfficientNet-Lite1, for 240x240."""
    return EfficientNetLite(1.0, 1.1, num_classes, in_channels, dropout)


@register("efficientnet_lite2", input_size=260)
def efficientnet_lite2(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.3) -> EfficientNetLite:
    """EfficientNet-Lite2, for 260x260."""
    return EfficientNetLite(1.1, 1.2, num_classes, in_channels, dropout)


@register("efficientnet_lite3", input_size=280)
def efficientnet_lite3(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.3) -> EfficientNetLite:
    """EfficientNet-Lite3, for 280x280."""
    return EfficientNetLite(1.2, 1.4, num_classes, in_channels, dropout)


@register("efficientnet_lite4", input_size=300)
def efficientnet_lite4(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.3) -> EfficientNetLite:
    """EfficientNet-Lite4, for 300x300."""
    return EfficientNetLite(1.4, 1.8, num_classes, in_channels, dropout)
