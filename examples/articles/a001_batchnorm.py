"""Article 001, section 4.2: batch normalisation, written out and as the layer.

Each channel is shifted and scaled to mean 0 and variance 1 over the batch and all places, then by two learned numbers.

Prints:
equal: True
mean [0.0, 0.0, 0.0], variance [1.0, 1.0, 1.0]
"""

import juanji as jj
import juanji.nn as nn

jj.manual_seed(0)
x = jj.randn(8, 3, 5, 5) * 3 + 7
mean = x.mean((0, 2, 3), keepdim=True)
variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
by_hand = (x - mean) / jj.sqrt(variance + 1e-5)
y = nn.BatchNorm2d(3)(x)
print("equal:", jj.allclose(y, by_hand, atol=1e-5))
averages = [round(abs(v), 3) for v in y.mean((0, 2, 3)).tolist()]
variances = [round(v, 3) for v in (y * y).mean((0, 2, 3)).tolist()]
print(f"mean {averages}, variance {variances}")
