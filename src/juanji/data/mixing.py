"""Batches whose pictures are mixed in pairs, with labels that say how much of each there is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from juanji.data._tensors import Array, Tensor, as_array, to_tensor
from juanji.data.randomness import sample_generator, uniform
from juanji.errors import ShapeError


class _Mixing:
    """What MixUp and CutMix share: their arguments, and the labels."""

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None) -> None:
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha={alpha!r} must be above 0")
        if num_classes is not None and (isinstance(num_classes, bool) or num_classes < 1):
            raise ValueError(f"num_classes={num_classes!r} must be 1 or more")
        self.alpha = float(alpha)
        self.num_classes = num_classes

    def __call__(self, *batch: Any) -> Any:
        """(pictures, labels) mixed, given as two arguments or as one tuple or list; labels become (N, classes)."""
        given = batch[0] if len(batch) == 1 else batch
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise TypeError(f"{type(self).__name__} takes a batch of pictures and its labels, and got {_what(batch)}")
        pictures, labels = (self._values(value) for value in given)
        if pictures.ndim < 4 or pictures.dtype.kind != "f":
            raise ShapeError(
                f"{type(self).__name__} takes floating-point pictures (N, C, H, W), and got {pictures.dtype}"
                f" {pictures.shape}; call it with whole batches, such as a collate_fn makes"
            )
        soft = self._soft(labels, len(pictures))
        random = sample_generator()
        mixed, share = self._mix(pictures, float(random.beta(self.alpha, self.alpha)), random)
        soft = (share * soft + (1 - share) * np.roll(soft, 1, axis=0)).astype(np.float32)
        out = [to_tensor(a) if isinstance(b, Tensor) else a for a, b in zip((mixed, soft), given, strict=True)]
        return out if isinstance(given, list) else tuple(out)

    def _mix(self, pictures: Array, share: float, random: np.random.Generator) -> tuple[Array, float]:
        """The mixed pictures, and how much of the first of each pair they have."""
        raise NotImplementedError

    def _values(self, value: Any) -> Array:
        if not isinstance(value, (Tensor, np.ndarray)):
            raise TypeError(f"{type(self).__name__} takes tensors or arrays, and got {type(value).__name__}")
        return as_array(value)

    def _soft(self, labels: Array, count: int) -> Array:
        """Labels (N,) or (N, classes) as float (N, classes)."""
        if labels.shape[:1] != (count,) or labels.ndim > 2:
            raise ShapeError(f"labels must be ({count},) or ({count}, classes), and are {labels.shape}")
        if labels.ndim == 2:
            if self.num_classes not in (None, labels.shape[1]):
                raise ShapeError(f"labels of shape {labels.shape} have not num_classes={self.num_classes} columns")
            return labels.astype(np.float64)
        if self.num_classes is None:
            raise ValueError(f"{type(self).__name__} needs num_classes for labels that are class numbers")
        if labels.dtype.kind not in "iu":
            raise TypeError(f"labels of shape {labels.shape} must be class numbers (integers), and are {labels.dtype}")
        if count and not 0 <= labels.min() <= labels.max() < self.num_classes:
            raise ValueError(f"labels go from {labels.min()} to {labels.max()}; num_classes={self.num_classes}")
        hot: Array = np.eye(self.num_classes)[labels]
        return hot

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, num_classes={self.num_classes})"


class MixUp(_Mixing):
    """Each picture of a batch blended with the one before it, and their labels alike (Zhang et al. 2018).

    Called with (pictures (N, C, H, W), labels (N,) or (N, classes)); gives labels of shape (N, classes), which
    `CrossEntropyLoss` takes. As part of a `collate_fn` its numbers come from the loader's seed, and are the
    same for any number of workers.

    Args:
        alpha: the share of the first picture is drawn from Beta(alpha, alpha).
        num_classes: needed for labels that are class numbers.

    Raises:
        TypeError, ValueError, ShapeError: what is no such batch.

    >>> mixed, labels = MixUp(num_classes=2)(np.zeros((4, 1, 2, 2)), np.array([0, 1, 0, 1]))
    >>> labels.shape, labels.sum(1).round(6).tolist()
    ((4, 2), [1.0, 1.0, 1.0, 1.0])
    """

    def _mix(self, pictures: Array, share: float, random: np.random.Generator) -> tuple[Array, float]:
        kind = pictures.dtype.type
        return pictures * kind(share) + np.roll(pictures, 1, axis=0) * kind(1 - share), share


class CutMix(_Mixing):
    """A rectangle of each picture of a batch taken from the one before it (Yun et al. 2019).

    Called as `MixUp` is; the labels are mixed by area.

    Args:
        alpha: the area kept is drawn from Beta(alpha, alpha).
        num_classes: needed for labels that are class numbers.

    Raises:
        TypeError, ValueError, ShapeError: what is no such batch.

    >>> pictures = np.arange(2.0).repeat(16).reshape(2, 1, 4, 4)
    >>> mixed, labels = CutMix(num_classes=2)(pictures, np.array([0, 1]))
    >>> bool(np.allclose(mixed[1].mean(), labels[1, 1]))
    True
    """

    def _mix(self, pictures: Array, share: float, random: np.random.Generator) -> tuple[Array, float]:
        height, width = pictures.shape[-2:]
        x, y = int(random.integers(width)), int(random.integers(height))
        half = 0.5 * math.sqrt(1 - share)
        left, right = max(x - int(half * width), 0), min(x + int(half * width), width)
        top, bottom = max(y - int(half * height), 0), min(y + int(half * height), height)
        mixed = pictures.copy()
        mixed[..., top:bottom, left:right] = np.roll(pictures, 1, axis=0)[..., top:bottom, left:right]
        return mixed, 1 - (right - left) * (bottom - top) / (width * height)


class RandomChoice:
    """One of several transforms, drawn anew for each call.

    Args:
        transforms: what to draw from.
        p: their probabilities, made to add up to 1; by default all alike.

    >>> RandomChoice([MixUp(num_classes=3), CutMix(num_classes=3)])
    RandomChoice(
        MixUp(alpha=1.0, num_classes=3)
        CutMix(alpha=1.0, num_classes=3)
    )
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]], p: Sequence[float] | None = None) -> None:
        if not transforms or not all(callable(transform) for transform in transforms):
            raise TypeError(f"transforms={transforms!r} must be one or more transforms")
        weights = np.ones(len(transforms)) if p is None else np.asarray(p, np.float64)
        if weights.shape != (len(transforms),) or not (weights >= 0).all() or not 0 < weights.sum() < math.inf:
            raise ValueError(f"p={p!r} must be a probability for each of the {len(transforms)} transforms")
        self.transforms = list(transforms)
        self.p = (weights / weights.sum()).tolist()
        self._ends = np.cumsum(self.p)

    def __call__(self, *values: Any) -> Any:
        """What the chosen transform makes of it."""
        k = int(np.searchsorted(self._ends, uniform(1)[0], side="right"))
        return self.transforms[min(k, len(self.transforms) - 1)](*values)

    def __repr__(self) -> str:
        return "\n".join(["RandomChoice(", *(f"    {transform}" for transform in self.transforms), ")"])


def _what(batch: Sequence[Any]) -> str:
    return ", ".join(type(value).__name__ for value in batch) or "nothing"
