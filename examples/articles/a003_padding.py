"""Article 003, section 9.2, and 000, section 2.1: the ways to pad.

Prints:
zeros      [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]
reflect    [3.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0]
replicate  [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0]
circular   [3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0]
the layer does the same: True
"""

import juanji as jj
import juanji.nn as nn
import juanji.nn.functional as F

x = jj.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4)
same = True
for mode in ("zeros", "reflect", "replicate", "circular"):
    padded = F.pad(x, (2, 2), mode="constant" if mode == "zeros" else mode)
    print(f"{mode:10}", padded.flatten().tolist())
    layer = nn.Conv1d(1, 1, 5, padding=2, padding_mode=mode)
    same &= jj.allclose(layer(x), F.conv1d(padded, layer.weight, layer.bias), atol=1e-6)
print("the layer does the same:", same)
