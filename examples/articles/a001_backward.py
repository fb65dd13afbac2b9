"""Article 001, section 3.2: the backward pass of a convolution is made of convolutions.

The gradient of the kernel is the input correlated with the output's gradient; that of the input is the output's
gradient, padded, correlated with the kernel turned by 180 degrees. Of a max pooling, the gradient goes to the maxima.

Prints:
kernel: True
input: True
pooling: [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 4.0]]
"""

import juanji as jj
import juanji.nn.functional as F

jj.manual_seed(0)
x = jj.randint(-4, 5, (1, 1, 6, 6)).float().requires_grad_()
weight = jj.randint(-4, 5, (1, 1, 3, 3)).float().requires_grad_()
upstream = jj.randint(-4, 5, (1, 1, 4, 4)).float()
F.conv2d(x, weight).backward(upstream)
with jj.no_grad():
    print("kernel:", jj.equal(weight.grad, F.conv2d(x, upstream)))
    print("input:", jj.equal(x.grad, F.conv2d(upstream, weight.flip(2, 3), padding=2)))

m = jj.arange(16.0).reshape(1, 1, 4, 4).requires_grad_()
F.max_pool2d(m, 2).backward(jj.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2))
print("pooling:", m.grad[0, 0].tolist())
