"""Article 004, section 4.2: 1..25 with the kernel [[1, 0, 1], [0, 1, 0], [1, 0, 1]].

The article prints [[32, 37, 42], [77, 82, 87], [122, 127, 132]]. The five ones of the kernel lie on a cross of
diagonals, so each result is five times the number in its middle.

Prints:
[35, 40, 45]
[60, 65, 70]
[85, 90, 95]
"""

import juanji as jj
import juanji.nn.functional as F

x = jj.arange(1, 26).reshape(1, 1, 5, 5)
kernel = jj.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).reshape(1, 1, 3, 3)
for row in F.conv2d(x, kernel)[0, 0].tolist():
    print(row)
