"""LeNet (LeCun et al., 1998), the small network with which the field began, with ReLU and max pooling."""

from __future__ import annotations

from juanji import nn
from juanji.nn import functional as F
from juanji.tensors import Tensor
from juanji.zoo.registry import register


@register("lenet", input_size=28)
class LeNet(nn.Module):
    """Classifies pictures of 28 x 28: two convolutions with pooling, then three fully connected layers.

    Takes (N, in_channels, 28, 28) and gives scores (N, num_classes).

    >>> import juanji as jj
    >>> net = LeNet()
    >>> sum(p.numel() for p in net.parameters())
    60074
    >>> tuple(net(jj.zeros(2, 1, 28, 28)).shape)
    (2, 10)
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 3)
        self.conv2 = nn.Conv2d(6, 16, 3)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, num_classes) of pictures (N, in_channels, 28, 28)."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        scores: Tensor = self.fc3(x)
        return scores
