"""Article 000, section 3.2, step 2: a kernel of ones slides over 0..8.

The article gives a 2x3 kernel and prints [[7, 10], [18, 25]]. A 2x3 kernel fits a 3x3 input in two places only, one
below the other; the four results of a 2x2 kernel are others too.

Prints:
2x3 kernel: [[15], [33]]
2x2 kernel: [[8, 12], [20, 24]]
"""

import juanji as jj
import juanji.nn.functional as F

x = jj.arange(9).reshape(1, 1, 3, 3)
for height, width in ((2, 3), (2, 2)):
    kernel = jj.ones(1, 1, height, width, dtype=jj.int64)
    print(f"{height}x{width} kernel:", F.conv2d(x, kernel)[0, 0].tolist())
