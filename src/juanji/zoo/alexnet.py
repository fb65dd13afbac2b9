"""AlexNet in one column: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

Names and shapes of the parameters are torchvision's.
"""

from __future__ import annotations

from collections.abc import Iterator

from juanji import nn
from juanji.tensors import Tensor
from juanji.zoo.classifier import Classifier
from juanji.zoo.registry import register


@register("alexnet", input_size=224)
class AlexNet(Classifier):
    """Five convolutions, three poolings, three fully connected layers over 6x6 maps.

    >>> import juanji as jj
    >>> sum(p.numel() for p in AlexNet().parameters())
    61100840
    """

    classifier_name = "classifier.6"

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_classes, self.num_features = num_classes, 4096
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, num_classes) if num_classes else nn.Identity(),
        )

    def stages(self, x: Tensor) -> Iterator[Tensor]:
        """The maps behind each pooling."""
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                yield x

    def pooled(self, x: Tensor) -> Tensor:
        """(N, 4096) of feature maps: all but the last fully connected layer."""
        x = self.avgpool(x).flatten(1)
        for layer in list(self.classifier)[:-1]:
            x = layer(x)
        return x
