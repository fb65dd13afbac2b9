"""Article 001, section 4.3: the cross-entropy of two classes, the mean squared error, and steps of SGD and Adam.

Prints:
cross-entropy 0.3285 by the formula, 0.3285 by the function
mean squared error 0.0887 by the formula, 0.0887 by the function
SGD: 1.0 - 0.1 * 4.0 = 0.6
Adam's first step: 0.9
"""

import juanji as jj
import juanji.nn.functional as F

y, p = jj.tensor([1.0, 0.0, 1.0]), jj.tensor([0.9, 0.3, 0.5925])
formula = -(y * jj.log(p) + (1 - y) * jj.log(1 - p)).mean()
print(f"cross-entropy {formula.item():.4f} by the formula, {F.binary_cross_entropy(p, y).item():.4f} by the function")
square = ((p - y) ** 2).mean()
print(f"mean squared error {square.item():.4f} by the formula, {F.mse_loss(p, y).item():.4f} by the function")
for name, make in (("SGD", jj.optim.SGD), ("Adam", jj.optim.Adam)):
    theta = jj.tensor(1.0, requires_grad=True)
    (2 * theta**2).backward()
    make([theta], lr=0.1).step()
    if name == "SGD":
        print(f"SGD: 1.0 - 0.1 * {theta.grad.item()} = {theta.item():.1f}")
    else:
        print(f"Adam's first step: {theta.item():.1f}")
