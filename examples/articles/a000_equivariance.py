"""Articles 000 (section 3.3), 001 (2.3) and 002 (9): "translation invariance".

Convolution is *equivariant*: when the input moves, the output moves with it. It would be invariant if the output
stayed as it was. Pooling brings a little invariance: for moves inside one window.

Prints:
output of the moved input equals the moved output: True
output of the moved input equals the output: False
maximum over everything stays: True
"""

import juanji as jj
import juanji.nn.functional as F

jj.manual_seed(0)
x = jj.zeros(1, 1, 12, 12)
x[..., 3:6, 3:6] = jj.randint(1, 9, (3, 3)).float()
moved = jj.zeros(1, 1, 12, 12)
moved[..., 2:, 1:] = x[..., :-2, :-1]  # two down, one to the right
kernel = jj.randint(-4, 5, (1, 1, 3, 3)).float()
y, y_moved = F.conv2d(x, kernel, padding=1), F.conv2d(moved, kernel, padding=1)
print("output of the moved input equals the moved output:", jj.equal(y_moved[..., 2:, 1:], y[..., :-2, :-1]))
print("output of the moved input equals the output:", jj.equal(y_moved, y))
print("maximum over everything stays:", bool(y.max() == y_moved.max()))
