"""Article 000, section 3.2, step 1: a 3x3 kernel, stride 1, padding "same".

The article's drawing shows a kernel of two columns and eight rows. With a 3x3 kernel and padding "same" (one line of
zeros on every side) the output is as large as the input.

Prints:
valid: [1, 1]
same: [3, 3] [[8, 15, 12], [21, 36, 27], [20, 33, 24]]
"""

import juanji as jj
import juanji.nn.functional as F

x = jj.arange(9).reshape(1, 1, 3, 3)
kernel = jj.ones(1, 1, 3, 3, dtype=jj.int64)
print("valid:", list(F.conv2d(x, kernel, padding="valid").shape[2:]))
same = F.conv2d(x, kernel, padding="same")
print("same:", list(same.shape[2:]), same[0, 0].tolist())
