"""Article 001, section 2.2: the continuous, the discrete and the image's convolution.

The first two formulas turn the second function round, g(x - t); the third, for images, does not: it is the
cross-correlation that every framework computes. They differ by a 180 degree turn of the kernel.

Prints:
integral of two unit boxes at 0.5, 1, 1.5: [0.5, 1.0, 0.5]
sum f[m] g[n-m]: [0.0, 1.0, 2.5, 4.0, 1.5]
convolution theorem holds: True
image formula:  [[-1.0, -1.0], [-1.0, -1.0]]
kernel flipped: [[1.0, 1.0], [1.0, 1.0]]
"""

import numpy as np

import juanji as jj
import juanji.nn.functional as F

# (f * g)(x) is the integral of f(t) g(x - t); two boxes on [0, 1) make a triangle on [0, 2).
t = (np.arange(4000) + 0.5) / 1000 - 1
box = lambda v: ((v >= 0) & (v < 1)).astype(float)  # noqa: E731
areas = [round(float(np.sum(box(t) * box(x - t)) / 1000), 2) for x in (0.5, 1, 1.5)]
print("integral of two unit boxes at 0.5, 1, 1.5:", areas)

# (f * g)[n] is the sum of f[m] g[n - m]: conv1d with the kernel turned round and padding for every overlap.
f, g = jj.tensor([1.0, 2.0, 3.0]), jj.tensor([0.0, 1.0, 0.5])
full = F.conv1d(f.reshape(1, 1, 3), g.flip(0).reshape(1, 1, 3), padding=2).reshape(5)
print("sum f[m] g[n-m]:", full.tolist())
spectrum = np.fft.rfft(f.numpy(), 5) * np.fft.rfft(g.numpy(), 5)
print("convolution theorem holds:", bool(np.allclose(np.fft.irfft(spectrum, 5), full.numpy(), atol=1e-6)))

image = jj.arange(9.0).reshape(1, 1, 3, 3)
kernel = jj.tensor([[1.0, -1.0], [0.0, 0.0]]).reshape(1, 1, 2, 2)
print("image formula: ", F.conv2d(image, kernel)[0, 0].tolist())
print("kernel flipped:", F.conv2d(image, kernel.flip(2, 3))[0, 0].tolist())
