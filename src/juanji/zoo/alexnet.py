"""AlexNet in one column: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

Names and shapes of the parameters are torchvision's.
"""

from __future__ import annotations

from juanji import nn
from juanji.zoo.classifier import Columns
from juanji.zoo.registry import register


@register("alexnet", input_size=224)
class AlexNet(Columns):
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
