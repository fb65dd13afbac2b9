"""Article 002, section 4: 1..9 with the kernel [[-1, 0], [0, 1]]. The article's 4 and 4 are right; here all four.

Prints:
(1*-1 + 2*0 + 4*0 + 5*1) = 4
(2*-1 + 3*0 + 5*0 + 6*1) = 4
(4*-1 + 5*0 + 7*0 + 8*1) = 4
(5*-1 + 6*0 + 8*0 + 9*1) = 4
conv2d: [[4, 4], [4, 4]]
"""

import juanji as jj
import juanji.nn.functional as F

x = jj.arange(1, 10).reshape(3, 3)
kernel = jj.tensor([[-1, 0], [0, 1]])
for i in range(2):
    for j in range(2):
        window = x[i : i + 2, j : j + 2].flatten().tolist()
        terms = " + ".join(f"{a}*{b}" for a, b in zip(window, kernel.flatten().tolist(), strict=True))
        print(f"({terms}) = {sum(a * b for a, b in zip(window, kernel.flatten().tolist(), strict=True))}")
print("conv2d:", F.conv2d(x.reshape(1, 1, 3, 3), kernel.reshape(1, 1, 2, 2))[0, 0].tolist())
