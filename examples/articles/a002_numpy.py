"""Article 002, section 5: the sliding window in NumPy, as printed, and the same by Juanji.

Prints:
[[4. 4.]
 [4. 4.]]
the same by conv2d: True
"""

import numpy as np

import juanji as jj
import juanji.nn.functional as F

input_data = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
kernel = np.array([[-1, 0], [0, 1]])
output = np.zeros((2, 2))
for i in range(2):
    for j in range(2):
        output[i, j] = np.sum(input_data[i : i + 2, j : j + 2] * kernel)
print(output)

y = F.conv2d(jj.tensor(input_data)[None, None], jj.tensor(kernel)[None, None])
print("the same by conv2d:", np.array_equal(y[0, 0].numpy(), output))
