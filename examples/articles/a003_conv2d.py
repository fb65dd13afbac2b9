"""Article 003, sections 4.2, 4.3 and 5.4: `conv2d` of whole numbers with padding 1.

The article prints a 2x2 result (section 5.4: "1x1"); it is 5x5. And its formula, kernel(m, n) input(i - m, j - n), is
not what `conv2d` computes: `conv2d` does not turn the kernel round. For this kernel the turn changes the sign.

Prints:
tensor([[[[ -9,  -4,  -4,  -4,  13],
          [-21,  -6,  -6,  -6,  27],
          [-36,  -6,  -6,  -6,  42],
          [-51,  -6,  -6,  -6,  57],
          [-39,  -4,  -4,  -4,  43]]]])
by the article's formula: [9, 4, 4, 4, -13] in the first row
"""

import juanji as jj

kernel = jj.tensor([[1, 0, -1], [1, 0, -1], [1, 0, -1]])
input_data = jj.tensor(
    [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15], [16, 17, 18, 19, 20], [21, 22, 23, 24, 25]]
)
output = jj.nn.functional.conv2d(input_data.unsqueeze(0).unsqueeze(0), kernel.unsqueeze(0).unsqueeze(0), padding=1)
print(output)

flipped = kernel.flip(0, 1)
formula = jj.nn.functional.conv2d(input_data[None, None], flipped[None, None], padding=1)
print("by the article's formula:", formula[0, 0, 0].tolist(), "in the first row")
