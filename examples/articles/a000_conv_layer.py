"""Article 000, section 4.3: `ConvLayer`, a module around one convolution. The program as printed.

Prints:
(1, 64, 32, 32)
"""

import juanji as jj
import juanji.nn as nn


class ConvLayer(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        super(ConvLayer, self).__init__()  # noqa: UP008 (as the article prints it)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, x):
        return self.conv(x)


in_channels = 3
out_channels = 64
kernel_size = 3
stride = 1
padding = 1

conv_layer = ConvLayer(in_channels, out_channels, kernel_size, stride, padding)

x = jj.randn(1, in_channels, 32, 32)
y = conv_layer(x)

print(tuple(y.size()))
