"""Where a classifier looked: class activation maps by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from juanji import autograd
from juanji.nn import functional as F
from juanji.nn.module import Module
from juanji.spec import show as show_shape
from juanji.tensors import Tensor, from_numpy
from juanji.visual.modes import evaluating


def grad_cam(
    model: Module,
    inputs: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    layer: str | Module | None = None,
    *,
    normalize: bool = True,
) -> Tensor:
    """What in each picture speaks for a class: the maps of a layer, weighted by the class score's mean gradient.

    With the layer's maps A_c and the score y of the class, the map is ReLU(sum over c of w_c A_c), where w_c is the
    mean of dy/dA_c over all places; it is then enlarged to the picture, bilinearly.

    Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017.

    Args:
        model: a classifier: pictures to scores (N, classes). It runs in evaluation mode and is left as it was, its
            gradients too.
        inputs: pictures as the model takes them, (N, C, H, W) or (C, H, W).
        target: a class number for all pictures or one for each; the class with the highest score unless given.
        layer: a module or its name as in `model.named_modules()`; unless given, the last one that returns maps
            (N, C, h, w) of more than one place.
        normalize: divide each map by its largest value, so that it lies in 0..1. A map that is zero stays so.

    Returns:
        (N, H, W), float32, without a gradient.

    Raises:
        ValueError: no such layer, or it returns no maps; a class that does not exist; pictures of another shape.
        TypeError: `model` is no module, or `inputs` no tensor of floating point.

    >>> import juanji as jj
    >>> from juanji import nn
    >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    >>> jj.grad_cam(model, jj.rand(4, 1, 8, 8), target=1).shape
    (4, 8, 8)
    """
    if not isinstance(model, Module):
        raise TypeError(f"grad_cam: model must be a Module, not {type(model).__name__}")
    if not isinstance(inputs, Tensor) or not inputs.dtype.is_floating_point:
        kind = f"a tensor of {inputs.dtype.name}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"grad_cam: inputs must be a tensor of floating point, not {kind}")
    x: Tensor = inputs.detach()
    if x.ndim == 3:
        x = x.unsqueeze(0)
    if x.ndim != 4 or not x.numel():
        raise ValueError(f"grad_cam: inputs of shape {show_shape(inputs.shape)} must be [N, C, H, W] or [C, H, W]")
    with evaluating(model):
        module = _module(model, layer) if layer is not None else _last_maps(model, x)
        maps, scores = _run(model, x, module)
        chosen = _classes(target, scores)
        with autograd.enable_grad():
            picked = scores.gather(1, from_numpy(chosen).unsqueeze(1)).sum()
        slopes: Any = autograd.grad(picked, maps)[0]
    with autograd.no_grad():
        found: Any = (slopes.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True).relu()
        large: Tensor = F.interpolate(found.float(), size=tuple(x.shape[2:]), mode="bilinear", align_corners=False)[
            :, 0
        ]
        if not normalize:
            return large
        most: Any = large.amax((1, 2), keepdim=True)
        scaled: Tensor = large / (most + (most == 0).float())
        return scaled


def _module(model: Module, layer: str | Module) -> Module:
    known = dict(model.named_modules())
    if isinstance(layer, Module):
        if not any(module is layer for module in known.values()):
            raise ValueError(f"grad_cam: layer is a {type(layer).__name__} that is no part of the model")
        return layer
    if layer not in known:
        raise ValueError(f"grad_cam: no layer {layer!r}; there are {', '.join(filter(None, known))}")
    return known[layer]


def _last_maps(model: Module, x: Tensor) -> Module:
    """The last module, in the order in which they finish, that returns maps of more than one place."""
    last: list[Module] = []

    def note(module: Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            last[:] = [module]

    handles = [m.register_forward_hook(note) for m in model.modules() if m is not model]
    try:
        with autograd.no_grad():
            model(x[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not last:
        raise ValueError(f"grad_cam: no layer of {type(model).__name__} returns maps [N, C, h, w]; give one as layer")
    return last[0]


def _run(model: Module, x: Tensor, module: Module) -> tuple[Tensor, Tensor]:
    """The layer's maps, and the scores as a function of them."""
    kept: list[Tensor] = []
    grad = ExitStack()

    def cut(module: Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            what = f"shape {show_shape(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"grad_cam: the layer must return maps [N, C, h, w], and it returns {what}")
        # Nothing is recorded up to here, which saves its memory; from here on the maps are what the scores hang on. The
        # copy may be changed in place by what comes next.
        grad.enter_context(autograd.enable_grad())
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    with module.register_forward_hook(cut), autograd.no_grad(), grad:
        scores = model(x)
    if not kept:
        raise ValueError("grad_cam: the model did not use the layer")
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(x):
        found = show_shape(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"grad_cam: the model must return scores [N, classes], and it returned {found}")
    if not scores.requires_grad:
        raise ValueError("grad_cam: the scores do not depend on the layer")
    return kept[-1], scores


def _classes(target: int | Sequence[int] | Tensor | None, scores: Tensor) -> Any:
    """A class number for each picture, int64 (N,)."""
    count, classes = scores.shape
    if target is None:
        return scores.detach().numpy().argmax(axis=1).astype(np.int64)
    numbers = np.asarray(target.detach().numpy() if isinstance(target, Tensor) else target)
    if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (count,)):
        raise ValueError(f"grad_cam: target={target!r} must be a class number, or one for each of {count} pictures")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(f"grad_cam: target={target!r} must lie between 0 and {classes - 1}")
    return np.array(np.broadcast_to(numbers, (count,)), np.int64)
