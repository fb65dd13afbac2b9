"""Article 001, section 3.3: padding, stride, dilation, groups, depthwise-separable; sizes, weights, multiply-adds.

Prints:
plain               16x30x30    4,608 weights    4,147,200 multiply-adds
padding 1           16x32x32    4,608 weights    4,718,592 multiply-adds
stride 2            16x16x16    4,608 weights    1,179,648 multiply-adds
dilation 2          16x32x32    4,608 weights    4,718,592 multiply-adds
groups 4            16x32x32    1,152 weights    1,179,648 multiply-adds
depthwise-separable 16x32x32      800 weights      819,200 multiply-adds
"""

import juanji as jj
import juanji.nn as nn

layers = {
    "plain": nn.Conv2d(32, 16, 3, bias=False),
    "padding 1": nn.Conv2d(32, 16, 3, padding=1, bias=False),
    "stride 2": nn.Conv2d(32, 16, 3, stride=2, padding=1, bias=False),
    "dilation 2": nn.Conv2d(32, 16, 3, padding=2, dilation=2, bias=False),
    "groups 4": nn.Conv2d(32, 16, 3, padding=1, groups=4, bias=False),
    "depthwise-separable": nn.Sequential(
        nn.Conv2d(32, 32, 3, padding=1, groups=32, bias=False), nn.Conv2d(32, 16, 1, bias=False)
    ),
}
for name, layer in layers.items():
    table = jj.summary(layer, (1, 32, 32, 32))
    size = "x".join(map(str, table.rows[0].output[1:]))
    print(f"{name:19} {size:9} {table.parameters:7,} weights {table.multiply_adds:12,} multiply-adds")
