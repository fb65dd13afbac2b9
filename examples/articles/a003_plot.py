"""Article 003, section 5.2: the input and the output as pictures, and how one output comes about.

With matplotlib (`pip install "juanji[plot]"`); `--save` writes the pictures instead of showing them.

Prints:
output 5x5, from -51 to 57
"""

import sys

import juanji as jj
import juanji.nn as nn

conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
with jj.no_grad():
    conv.weight.copy_(jj.tensor([[1.0, 0.0, -1.0]] * 3))
input_data = jj.arange(1.0, 26.0).reshape(1, 1, 5, 5)
output = conv(input_data).detach()
print(f"output 5x5, from {output.min().item():.0f} to {output.max().item():.0f}")

figures = {
    "input": jj.show(input_data, title="Input Data"),
    "output": jj.show(output, title="Output Data"),
    "arithmetic": jj.plot_arithmetic(conv, input_data, output=(1, 1)),
}
if "--save" in sys.argv:
    for name, figure in figures.items():
        figure.savefig(f"article_003_{name}.png")
else:
    import matplotlib.pyplot as plt

    plt.show()
