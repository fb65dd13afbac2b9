"""Article 004, sections 3.2 and 9: what a kernel's values pick out.

An edge kernel sums to 0 and is silent where nothing changes; a smoothing kernel sums to 1 and keeps the mean. More on
choosing sizes and values: docs/kernels.md.

Prints:
sobel     sum  0.0: flat 0.0, vertical edge 4.0, horizontal edge 0.0
laplacian sum  0.0: flat 0.0, vertical edge -1.0, horizontal edge -1.0
box       sum  1.0: flat 1.0, vertical edge 0.7, horizontal edge 0.7
"""

import juanji as jj
import juanji.nn.functional as F

flat = jj.ones(1, 1, 5, 5)
vertical = jj.zeros(1, 1, 5, 5)
vertical[..., 2:] = 1
horizontal = vertical.transpose(2, 3)
kernels = {
    "sobel": jj.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "laplacian": jj.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "box": jj.full((3, 3), 1 / 9),
}
for name, kernel in kernels.items():
    middle = [F.conv2d(image, kernel[None, None])[0, 0, 1, 1].item() for image in (flat, vertical, horizontal)]
    seen = ", ".join(
        f"{what} {v:.1f}" for what, v in zip(("flat", "vertical edge", "horizontal edge"), middle, strict=True)
    )
    print(f"{name:9} sum {abs(kernel.sum().item()):4.1f}: {seen}")
