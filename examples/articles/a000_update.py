"""Article 000, section 3.2, step 4, and 4.2: one gradient step of a kernel.

The article turns the gradient [[2, -2], [-2, 2]] into the update [[0.5, -0.5], [-0.5, 0.5]], which has the gradient's
own sign. Gradient descent goes against it: with a learning rate of 0.25 the kernel changes by minus that. And the
gradient is no plain product, as "dL/dY x dY/dW" may be read: it is the correlation of the input with dL/dY.

Prints:
change: [[-0.5, 0.5], [0.5, -0.5]]
gradient by autograd:        [[27.0, 37.0], [57.0, 67.0]]
input correlated with dL/dY: [[27.0, 37.0], [57.0, 67.0]]
"""

import juanji as jj
import juanji.nn.functional as F

kernel = jj.zeros(2, 2, requires_grad=True)
kernel.grad = jj.tensor([[2.0, -2.0], [-2.0, 2.0]])
jj.optim.SGD([kernel], lr=0.25).step()
print("change:", kernel.tolist())

x = jj.arange(9.0).reshape(1, 1, 3, 3)
weight = jj.ones(1, 1, 2, 2, requires_grad=True)
y = F.conv2d(x, weight)
upstream = jj.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
y.backward(upstream)
print("gradient by autograd:       ", weight.grad[0, 0].tolist())
print("input correlated with dL/dY:", F.conv2d(x, upstream)[0, 0].tolist())
