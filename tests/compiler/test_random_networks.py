"""Random convolutional networks, trained compiled and eagerly: fusion, layouts and epilogues change nothing."""

import random

import numpy as np
import pytest

import juanji as jj
from juanji.compiler import again
from juanji.nn import functional as F

KINDS = (
    "conv", "conv", "conv", "relu", "tanh", "pool", "average", "residual", "scale", "gate", "norm", "mask", "cat",
    "shuffle", "part", "dropout", "double", "attention", "transpose",
)  # fmt: skip


class Network:
    """A random network on small pictures, as a list of functions of (values so far, parameters)."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.dtype = (jj.float64, jj.float32)[seed % 2]
        self.parameters, self.layers, self.text = [], [], []
        self.images = self.random.choice((1, 2, 3, 5))
        channels = self.random.choice((1, 3, 4, 17))
        size = (self.random.randint(5, 12), self.random.randint(5, 12))
        self.input = (self.images, channels, *size)
        shapes = [self.input]
        for _ in range(self.random.randint(3, 7)):
            self.grow(shapes)
        self.classes = self.random.choice((2, 5, 10))
        flat = int(np.prod(shapes[-1][1:]))
        head, bias = self.parameter((self.classes, flat)), self.parameter((self.classes,))
        self.head = lambda x, p: F.linear(x.flatten(1), p[head], p[bias])

    def parameter(self, shape):
        fan = max(1, int(np.prod(shape[1:])))
        self.parameters.append(self.numbers.uniform(-1, 1, shape) / fan**0.5)
        return len(self.parameters) - 1

    def grow(self, shapes):
        """Adds a layer that reads the last value, and sometimes an earlier one of the same shape."""
        r, (n, c, h, w) = self.random, shapes[-1]
        kind = r.choice(KINDS)
        if kind == "conv":
            kernel = r.choice((1, 2, 3, 3))
            padding, stride = r.choice((0, 1)), r.choice((1, 1, 2))
            if min(h, w) + 2 * padding < kernel:
                return
            groups = r.choice([g for g in (1, 1, 2, c) if c % g == 0])
            outs = groups * r.choice((1, 2, 5, 8))
            weight = self.parameter((outs, c // groups, kernel, kernel))
            bias = self.parameter((outs,)) if r.random() < 0.7 else None
            options = {"stride": stride, "padding": padding, "groups": groups}
            self.add(
                f"conv {outs} {kernel} {options}",
                shapes,
                lambda v, p: F.conv2d(v[-1], p[weight], None if bias is None else p[bias], **options),
            )
            if r.random() < 0.6:
                self.add("relu", shapes, lambda v, p: F.relu(v[-1]))
        elif kind in ("pool", "average"):
            kernel, stride = r.choice((2, 3, (2, 1))), r.choice((None, 1, 2))
            if min(h, w) < 4:
                return
            pool = F.max_pool2d if kind == "pool" else F.avg_pool2d
            padding = r.choice((0, 1)) if kernel == 3 else 0
            self.add(f"{kind} {kernel} {stride} {padding}", shapes, lambda v, p: pool(v[-1], kernel, stride, padding))
        elif kind == "residual":
            same = [i for i, s in enumerate(shapes[:-1]) if s == shapes[-1]]
            if same:
                at = r.choice(same)
                self.add(f"residual {at}", shapes, lambda v, p: v[-1] + v[at])
        elif kind == "cat":
            same = [i for i, s in enumerate(shapes) if (s[0], *s[2:]) == (n, h, w)]
            at = r.choice(same)
            if c + shapes[at][1] < 40:
                self.add(f"cat {at}", shapes, lambda v, p: jj.cat([v[-1], v[at] * 2], 1))
        elif kind == "shuffle":
            groups = r.choice([g for g in (1, 2, 3, 4) if c % g == 0])

            def shuffle(v, p):
                return v[-1].reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)

            self.add(f"shuffle {groups}", shapes, shuffle)
        elif kind == "part":
            if c > 2:
                self.add("part", shapes, lambda v, p: v[-1][:, 1::2] + v[-1][:, : c // 2])
        elif kind == "dropout":
            self.add("dropout", shapes, lambda v, p: F.dropout(v[-1], 0.25))
        elif kind == "double":
            if h * w < 60:

                def double(v, p):
                    return v[-1].reshape(n, c, h, 1, w, 1).expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)

                self.add("double", shapes, double)
        elif kind == "attention":

            def attention(v, p):
                flat = v[-1].flatten(2)
                weights = (flat.transpose(1, 2) @ flat * c**-0.5).softmax(2)
                return (flat @ weights).reshape(n, c, h, w)

            self.add("attention", shapes, attention)
        elif kind == "transpose":
            self.add("transpose", shapes, lambda v, p: v[-1].transpose(2, 3) * 1.5)
        elif kind == "scale":
            factor = self.parameter((1, c, 1, 1))
            self.add("scale", shapes, lambda v, p: v[-1] * p[factor] + 0.5)
        elif kind == "gate":
            self.add("gate", shapes, lambda v, p: v[-1] * F.avg_pool2d(v[-1], (h, w)).sigmoid())
        elif kind == "norm":

            def norm(v, p):
                x = v[-1]
                mean = x.mean((0, 2, 3), keepdim=True)
                centred = x - mean
                return centred * ((centred * centred).mean((0, 2, 3), keepdim=True) + 0.1).rsqrt()

            self.add("norm", shapes, norm)
        elif kind == "mask":
            keep = jj.tensor(self.numbers.random((n, c, h, w)) < 0.7)
            self.add("mask", shapes, lambda v, p: jj.where(keep, v[-1], 0.0))
        else:
            self.add(kind, shapes, lambda v, p: getattr(v[-1], kind)())

    def add(self, text, shapes, function):
        values = [jj.zeros(*s, dtype=self.dtype) for s in shapes]
        out = function(values, [jj.tensor(a, dtype=self.dtype) for a in self.parameters])
        self.text.append(f"{text} -> {tuple(out.shape)}")
        self.layers.append(function)
        shapes.append(tuple(out.shape))

    def train(self, compiled):
        """(losses, final parameters) of four steps of gradient descent with momentum."""
        parameters = [jj.tensor(a, dtype=self.dtype).requires_grad_() for a in self.parameters]
        momentum = [jj.zeros(a.shape, dtype=self.dtype) for a in self.parameters]

        def step(x, target):
            values = [x]
            for layer in self.layers:
                values.append(layer(values, parameters))
            loss = F.cross_entropy(self.head(values[-1], parameters), target)
            for p in parameters:
                p.grad = None
            loss.backward()
            with jj.no_grad():
                for p, m in zip(parameters, momentum, strict=True):
                    if p.grad is not None:
                        m.mul_(0.9).add_(p.grad)
                        p.sub_(m, alpha=0.05)
            return loss

        run = jj.compile(step) if compiled else step
        numbers = np.random.default_rng(5)
        jj.manual_seed(8)
        losses = []
        for _ in range(4):
            x = jj.tensor(numbers.uniform(-1, 1, self.input), dtype=self.dtype)
            losses.append(run(x, jj.tensor(numbers.integers(0, self.classes, self.images))).item())
        return losses, [p.detach().numpy() for p in parameters]

    def check(self):
        expected, eager = self.train(False)
        losses, got = self.train(True)
        story = f"input {self.input}\n" + "\n".join(self.text)
        tolerance = 1e-9 if self.dtype is jj.float64 else 2e-3
        np.testing.assert_allclose(losses, expected, tolerance, err_msg=story)
        for a, b in zip(eager, got, strict=True):
            np.testing.assert_allclose(b, a, tolerance, tolerance, err_msg=story)


@pytest.mark.parametrize("seed", range(8))
def test_random_network(monkeypatch, kernel_target, seed):
    monkeypatch.setattr(again, "LARGE", 16)  # else small pictures would have nothing computed a second time
    Network(seed + (100 if kernel_target == "avx2" else 0)).check()
