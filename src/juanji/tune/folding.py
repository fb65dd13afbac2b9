"""Normalisations with fixed statistics, taken into the convolutions before them while a network is trained.

With the statistics fixed, y = (W x - m) / s * g + b is a convolution with the weights W g / s and the bias b - m g / s.
It says the same but for the last digits, and has the same gradients for W, g and b: but they come out of sums over the
weights instead of over all pixels, the activation is computed as the convolution's sums leave the registers, and what
the convolution alone gave need not be kept for the way back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from juanji import nn
from juanji.nn import Module
from juanji.tensors import Tensor, no_grad


@contextmanager
def folded(model: Module, sample: Tensor) -> Iterator[int]:
    """While open, frozen normalisations of a model are part of the convolutions before them.

    Args:
        model: whose `freeze()` fixed the statistics of some normalisations; parameters may learn. It may be run,
            trained and saved meanwhile; no names change.
        sample: an input, to see what follows what.

    Returns:
        (as the context's value) how many were taken in.

    >>> import juanji as jj
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).freeze(), nn.ReLU())
    >>> x = jj.randn(1, 3, 8, 8)
    >>> before = model(x)
    >>> with folded(model, x) as count:
    ...     count, jj.allclose(model(x), before, atol=1e-5)
    (1, True)
    """
    pairs = _pairs(model, sample)
    for conv, norm in pairs:
        conv.forward = _as_one(conv, norm)
        norm.forward = _as_it_is
    try:
        yield len(pairs)
    finally:
        for conv, norm in pairs:
            del conv.forward, norm.forward


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _as_one(conv: Any, norm: Any) -> Any:
    def forward(x: Tensor) -> Tensor:
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean * scale
        if conv.bias is not None:
            shift = shift + conv.bias * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        result: Tensor = conv._conv_forward(x, conv.weight * scale.reshape(-1, 1, 1, 1), shift)
        return result

    return forward


def _pairs(model: Module, sample: Tensor) -> list[tuple[Any, Any]]:
    """Each convolution whose result a frozen normalisation reads and, as far as modules can tell, nothing else."""
    made: dict[int, list[Any]] = {}
    readers: dict[int, list[Any]] = {}
    handles, kept = [], []

    def written(module: Any, inputs: Any, output: Any) -> None:
        made.setdefault(id(output), []).append(module)
        kept.append(output)  # so that no other tensor gets its number

    def read(module: Any, inputs: Any) -> None:
        for value in inputs:
            readers.setdefault(id(value), []).append(module)
            kept.append(value)

    for module in model.modules():
        if not list(module.children()):  # what contains others hands on what they read
            handles.append(module.register_forward_pre_hook(read))
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(written))
    was_training = model.training
    model.eval()  # nothing moves
    try:
        with no_grad():
            model(sample)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    convolutions = [conv for by in made.values() for conv in by]
    found = []
    for number, by in made.items():
        (conv, *others), following = by, readers.get(number, [])
        if others or convolutions.count(conv) > 1 or len(following) != 1:
            continue
        norm: Any = following[0]
        if isinstance(norm, nn.BatchNorm2d) and norm.frozen and norm.running_mean is not None:
            found.append((conv, norm))
    return found
