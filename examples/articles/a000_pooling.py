"""Article 000, section 3.2, step 3: max pooling of [[7, 10], [18, 25]].

The article says 2x2 windows and prints [[10], [25]]. One 2x2 window covers the whole map and has one maximum;
[[10], [25]] is what windows of one row and two columns give.

Prints:
2x2 window: [[25.0]]
1x2 window: [[10.0], [25.0]]
"""

import juanji as jj
import juanji.nn.functional as F

x = jj.tensor([[7.0, 10.0], [18.0, 25.0]]).reshape(1, 1, 2, 2)
print("2x2 window:", F.max_pool2d(x, 2)[0, 0].tolist())
print("1x2 window:", F.max_pool2d(x, (1, 2))[0, 0].tolist())
