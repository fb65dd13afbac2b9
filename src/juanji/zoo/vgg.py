"""VGG: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014.

Names and shapes of the parameters are torchvision's.
"""

from __future__ import annotations

from juanji import nn
from juanji.zoo.classifier import Columns, initialise
from juanji.zoo.registry import register

#: Table 1 of the paper: channels of the 3x3 convolutions between poolings.
CONFIGURATIONS: dict[int, tuple[tuple[int, ...], ...]] = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


class VGG(Columns):
    """Stages of 3x3 convolutions with pooling by 2, then three fully connected layers over 7x7 maps.

    Args:
        depth: 11, 13, 16 or 19 layers with weights.
        batch_norm: a normalisation behind each convolution.
        num_classes: scores; 0 for features only.
        in_channels: planes of the input.
        dropout: in front of the second and third fully connected layer.
    """

    classifier_name = "classifier.6"

    def __init__(
        self, depth: int, batch_norm: bool, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 4096
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in CONFIGURATIONS[depth]:
            for width in stage:
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(2, stride=2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes) if num_classes else nn.Identity(),
        )
        initialise(self)


@register("vgg11", input_size=224)
def vgg11(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-11."""
    return VGG(11, False, num_classes, in_channels, dropout)


@register("vgg13", input_size=224)
def vgg13(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-13."""
    return VGG(13, False, num_classes, in_channels, dropout)


@register("vgg16", input_size=224)
def vgg16(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-16."""
    return VGG(16, False, num_classes, in_channels, dropout)


@register("vgg19", input_size=224)
def vgg19(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-19."""
    return VGG(19, False, num_classes, in_channels, dropout)


@register("vgg11_bn", input_size=224)
def vgg11_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-11 with batch normalisation."""
    return VGG(11, True, num_classes, in_channels, dropout)


@register("vgg13_bn", input_size=224)
def vgg13_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-13 with batch normalisation."""
    return VGG(13, True, num_classes, in_channels, dropout)


@register("vgg16_bn", input_size=224)
def vgg16_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-16 with batch normalisation."""
    return VGG(16, True, num_classes, in_channels, dropout)


@register("vgg19_bn", input_size=224)
def vgg19_bn(num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> VGG:
    """VGG-19 with batch normalisation."""
    return VGG(19, True, num_classes, in_channels, dropout)
