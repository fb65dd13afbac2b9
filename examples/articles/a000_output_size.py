"""Article 000, section 4.1: the size of a convolution's output.

The article has (m - s(k-1) + 2p)/s + 1. Right is floor((m + 2p - d(k-1) - 1)/s) + 1 for an input of m, a kernel of k,
stride s, padding p and dilation d; the two agree where s = 1 and d = 1 by luck only if 2 is taken off.

Prints:
m=32 k=3 s=1 p=1 d=1: article 33, right 32, computed 32
m=32 k=3 s=2 p=1 d=1: article 16, right 16, computed 16
m=28 k=5 s=1 p=0 d=1: article 25, right 24, computed 24
m=224 k=7 s=2 p=3 d=1: article 110, right 112, computed 112
m=28 k=3 s=1 p=0 d=2: article 27, right 24, computed 24
"""

import juanji as jj
import juanji.nn.functional as F

for m, k, s, p, d in ((32, 3, 1, 1, 1), (32, 3, 2, 1, 1), (28, 5, 1, 0, 1), (224, 7, 2, 3, 1), (28, 3, 1, 0, 2)):
    article = (m - s * (k - 1) + 2 * p) // s + 1
    right = (m + 2 * p - d * (k - 1) - 1) // s + 1
    y = F.conv2d(jj.zeros(1, 1, m, m), jj.zeros(1, 1, k, k), stride=s, padding=p, dilation=d)
    print(f"m={m} k={k} s={s} p={p} d={d}: article {article}, right {right}, computed {y.shape[-1]}")
