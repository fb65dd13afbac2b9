"""Article 001, section 4.1: convolution as a product of matrices, O = X W.

X holds one window a row. It has h·w rows only if padding keeps the size, as the article silently assumes; W has
c·k·k rows and one column an output channel.

Prints:
X [48, 18], W [18, 4], O [48, 4]
equal to conv2d: True
"""

import juanji as jj
import juanji.nn.functional as F

jj.manual_seed(0)
c, h, w, k, n = 2, 6, 8, 3, 4
image = jj.randint(-4, 5, (1, c, h, w)).float()
weight = jj.randint(-4, 5, (n, c, k, k)).float()
padded = jj.zeros(1, c, h + 2, w + 2)
padded[:, :, 1:-1, 1:-1] = image
X = jj.stack([padded[0, :, y : y + k, x : x + k].reshape(-1) for y in range(h) for x in range(w)])
W = weight.reshape(n, -1).t()
O = X @ W  # noqa: E741 (the article's name)
print(f"X {list(X.shape)}, W {list(W.shape)}, O {list(O.shape)}")
print("equal to conv2d:", jj.equal(O.t().reshape(1, n, h, w), F.conv2d(image, weight, padding=1)))
