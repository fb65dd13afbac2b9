"""Article 004, section 5: the TensorFlow call and what it is here.

`tf.nn.conv2d` takes images [batch, height, width, channels] and filters [height, width, in, out]. The article shapes
its kernel [1, 3, 3, 1], a filter one high, three wide, of three input channels, which the image does not have; right is
[3, 3, 1, 1]. Here images are [batch, channels, height, width] and filters [out, in, height, width]: two permutations.

Prints:
tensor([[[[35.],
          [40.],
          [45.]],
<BLANKLINE>
         [[60.],
          [65.],
          [70.]],
<BLANKLINE>
         [[85.],
          [90.],
          [95.]]]])
"""

import juanji as jj
import juanji.nn.functional as F

input_image = jj.tensor(
    [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15], [16, 17, 18, 19, 20], [21, 22, 23, 24, 25]],
    dtype=jj.float32,
)
kernel = jj.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=jj.float32)
nhwc = input_image[None, :, :, None]
hwio = kernel[:, :, None, None]

output = F.conv2d(nhwc.permute(0, 3, 1, 2), hwio.permute(3, 2, 0, 1), stride=(1, 1), padding="valid")
print(output.permute(0, 2, 3, 1))
