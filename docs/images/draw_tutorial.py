"""Draws the pictures of the tutorial: the arithmetic of padding, stride, dilation and groups.

python docs/images/draw_tutorial.py
"""

from pathlib import Path

import matplotlib as mpl

import juanji as jj
import juanji.nn as nn

FOLDER = Path(__file__).parent
SOBEL = [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]


def layer(channels=1, **options):
    conv = nn.Conv2d(channels, channels, 3, bias=False, **options)
    with jj.no_grad():
        conv.weight.copy_(jj.tensor(SOBEL))
    return conv


def groups(path):
    """Which input channels each output channel sees: all, its group's, its own."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
    for axes, count in zip(panels, (1, 2, 6), strict=True):
        for out in range(6):
            for given in range(6):
                if out * count // 6 == given * count // 6:
                    axes.plot([0, 1], [given, out], color=plt.get_cmap("tab10")(out * count // 6), linewidth=1.5)
        axes.plot([0] * 6, range(6), "o", [1] * 6, range(6), "o", color="black", markersize=9)
        name = {1: "groups=1: 36 kernels", 2: "groups=2: 18 kernels", 6: "groups=6, depthwise: 6 kernels"}[count]
        axes.set_title(name, fontsize=10)
        axes.set_xticks([0, 1], ["input channels", "output channels"])
        axes.set_yticks([])
        axes.set_xlim(-0.3, 1.3)
        axes.invert_yaxis()
        for side in axes.spines.values():
            side.set_visible(False)
    figure.savefig(path, dpi=100)


def main():
    mpl.use("agg")
    picture = jj.arange(25.0).reshape(5, 5)
    jj.plot_arithmetic(layer(padding=1), picture).savefig(FOLDER / "arithmetic-padding.png", dpi=80)
    jj.plot_arithmetic(layer(padding=1, stride=2), picture, (1, 1)).savefig(FOLDER / "arithmetic-stride.png", dpi=80)
    wide = jj.arange(49.0).reshape(7, 7)
    jj.plot_arithmetic(layer(dilation=2), wide).savefig(FOLDER / "arithmetic-dilation.png", dpi=80)
    groups(FOLDER / "arithmetic-groups.png")


if __name__ == "__main__":
    main()
