"""Article 000, section 5.2: `Net` for images of 32x32.

The article writes fc1 = Linear(128*32*32, 10); two poolings by 2 leave 8x8, so it must be 128*8*8, and the program as
printed raises. Its text speaks of two fully connected layers; there is one.

Prints:
as printed: RuntimeError
corrected: (1, 10)
"""

import juanji as jj
import juanji.nn as nn


class Net(nn.Module):
    def __init__(self, side):
        super().__init__()
        self.side = side
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(64, 128, 3, 1, 1)
        self.fc1 = nn.Linear(128 * side * side, 10)

    def forward(self, x):
        x = self.conv1(x)
        x = self.pool(x)
        x = self.conv2(x)
        x = self.pool(x)
        x = x.view(-1, 128 * self.side * self.side)
        x = self.fc1(x)
        return x


x = jj.randn(1, 3, 32, 32)
try:
    Net(32)(x)
except RuntimeError:
    print("as printed: RuntimeError")
print("corrected:", tuple(Net(8)(x).size()))
