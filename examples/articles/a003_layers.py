"""Article 003, section 3.2: convolution, activation, pooling, step by step. The program as printed.

Prints:
(1, 10, 26, 26)
(1, 10, 26, 26)
(1, 10, 13, 13)
"""

import juanji as jj
import juanji.nn as nn

conv = nn.Conv2d(in_channels=1, out_channels=10, kernel_size=3)
x = jj.randn(1, 1, 28, 28)
out = conv(x)
print(tuple(out.shape))
relu = nn.ReLU()
out = relu(out)
print(tuple(out.shape))
pool = nn.MaxPool2d(kernel_size=2, stride=2)
out = pool(out)
print(tuple(out.shape))
