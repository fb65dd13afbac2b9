"""Pictures of tensors, filters and feature maps (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.nn.module import Module
from juanji.spec import show as show_shape
from juanji.tensors import Tensor
from juanji.visual.modes import evaluating

#: Planes of at most this many rows and columns have their numbers written into the cells.
NUMBERED = 16
#: At most so many planes are drawn; the title says how many there are.
MAX_PLANES = 64


def pyplot() -> Any:
    """`matplotlib.pyplot`.

    Raises:
        ImportError: matplotlib is not installed; the message says how to get it.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError('pictures need matplotlib: pip install "juanji[plot]"') from None
    return plt


def finish(figure: Any) -> Any:
    """Hands a figure over; a notebook shows what a cell returns, and would else show it twice."""
    plt = pyplot()
    if "inline" in plt.get_backend():
        plt.close(figure)
    return figure


def array_of(value: Any, argument: str, function: str) -> NDArray[Any]:
    """A NumPy array from a tensor, an array, nested lists or a Pillow image.

    Raises:
        TypeError: something else, or not numbers.
    """
    if isinstance(value, Tensor):
        tensor: Any = value.detach()
        return np.asarray((tensor.float() if "float16" in str(tensor.dtype) else tensor).numpy())
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{function}: {argument} must be a tensor, an array or an image, not {type(value).__name__}")
    if array.ndim == 3 and array.shape[-1] in (3, 4) and hasattr(value, "getbands"):
        array = np.moveaxis(array, -1, 0)  # Pillow's pixels, as [channels, height, width]
    return array


def grid_shape(count: int, columns: int | None) -> tuple[int, int]:
    """Rows and columns for `count` pictures, near a square unless `columns` is given."""
    wide = min(count, columns) if columns else math.ceil(math.sqrt(count))
    return math.ceil(count / max(1, wide)), max(1, wide)


def draw_plane(axes: Any, plane: NDArray[Any], low: float, high: float, cmap: str, numbers: bool) -> None:
    """One [H, W] plane as coloured cells, or [H, W, 3] as a picture."""
    axes.imshow(plane, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    if not numbers or plane.ndim != 2 or max(plane.shape) > NUMBERED:
        return
    write_numbers(axes, plane, low, high, cmap)


def write_numbers(axes: Any, plane: NDArray[Any], low: float, high: float, cmap: str) -> None:
    """Each cell's value, light on dark colours and dark on light ones."""
    plt = pyplot()
    colours = plt.get_cmap(cmap)
    for (y, x), value in np.ndenumerate(plane):
        level = 0.5 if high == low else (float(value) - low) / (high - low)
        red, green, blue, _ = colours(min(max(level, 0.0), 1.0)) if math.isfinite(level) else (1, 1, 1, 1)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        size = 9 if max(plane.shape) <= 8 else 6
        axes.text(x, y, text_of(value), ha="center", va="center", color="white" if dark else "black", fontsize=size)


def text_of(value: Any) -> str:
    """A number as short as it can be read.

    >>> text_of(3.0), text_of(-0.123456), text_of(7)
    ('3', '-0.12', '7')
    """
    number = float(value)
    return f"{number:g}" if number.is_integer() and abs(number) < 1e4 else f"{number:.2g}"


def limits(array: NDArray[Any], symmetric: bool) -> tuple[float, float]:
    """Smallest and largest finite value; with `symmetric`, equally far from zero."""
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if symmetric:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    return low, high


def planes_of(array: NDArray[Any], function: str) -> list[NDArray[Any]]:
    """The pictures in an array: [H, W], [C, H, W] or [N, C, H, W]; three channels are the colours of one picture."""
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 2:
        return [array]
    if array.ndim == 3:
        return [np.moveaxis(array, 0, -1)] if array.shape[0] == 3 else list(array)
    if array.ndim == 4:
        return [plane for image in array for plane in planes_of(image, function)]
    raise ValueError(f"{function}: x of shape {show_shape(array.shape)} must be [W], [H, W], [C, H, W] or [N, C, H, W]")


def show(x: Any, title: str | None = None, columns: int | None = None, cmap: str | None = None) -> Any:
    """Draws a tensor as pictures; small planes with their numbers.

    [H, W] is one picture; [C, H, W] one for each channel, or one in colour where there are three; [N, C, H, W] all of
    these. Values are spread over the colours from the smallest to the largest of all; where there are negative ones,
    zero is white.

    Args:
        x: tensor, NumPy array, nested lists or Pillow image.
        title: above the picture.
        columns: how many pictures a row.
        cmap: a matplotlib colour map.

    Returns:
        The matplotlib figure: `.savefig("x.png")` keeps it; in a notebook it shows itself.

    Raises:
        ImportError: matplotlib is missing. ValueError: not 1 to 4 dimensions, or no elements. TypeError: not numbers.

    >>> import juanji as jj
    >>> figure = jj.show(jj.arange(25).reshape(5, 5))  # doctest: +SKIP
    """
    array = array_of(x, "x", "show")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if not array.size:
        raise ValueError(f"show: x of shape {show_shape(array.shape)} has no elements to draw")
    planes = planes_of(array, "show")
    signed = bool(np.nanmin(array) < 0)
    low, high = limits(array, signed)
    if any(p.ndim == 3 for p in planes):
        planes = [_colours(p, low, high) if p.ndim == 3 else p for p in planes]
    heading = title or f"{show_shape(array.shape)}, {low:g} to {high:g}"
    return draw_grid(planes, heading, columns, cmap or ("RdBu_r" if signed else "gray"), (low, high))


def _colours(picture: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    if picture.dtype == np.uint8:
        return picture
    if low >= 0 and high <= 1:
        return np.clip(picture.astype(np.float64), 0, 1)
    return np.clip((picture.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)


def draw_grid(
    planes: Sequence[NDArray[Any]],
    heading: str,
    columns: int | None,
    cmap: str,
    bounds: tuple[float, float] | None,
    titles: Sequence[str] | None = None,
) -> Any:
    """A figure of many planes; each has colours of its own where `bounds` is None."""
    plt = pyplot()
    if columns is not None and columns < 1:
        raise ValueError(f"columns={columns} must be at least 1")
    shown = planes[:MAX_PLANES]
    rows, wide = grid_shape(len(shown), columns)
    numbered = max(max(p.shape[:2]) for p in shown) <= NUMBERED and len(shown) <= 16
    cell = 2.4 if numbered else 1.3
    figure, axes = plt.subplots(
        rows, wide, squeeze=False, figsize=(max(3.0, cell * wide), max(2.0, cell * rows) + 0.5), layout="constrained"
    )
    for place, axis in enumerate(axes.flat):
        if place >= len(shown):
            axis.axis("off")
            continue
        low, high = bounds or limits(shown[place], cmap == "RdBu_r")
        draw_plane(axis, shown[place], low, high, cmap, numbered)
        if titles is not None:
            axis.set_title(titles[place], fontsize=8)
    if len(planes) > len(shown):
        heading += f" (the first {len(shown)} of {len(planes)})"
    figure.suptitle(heading, fontsize=10)
    return finish(figure)


def show_filters(layer: Any, columns: int | None = None, cmap: str = "RdBu_r") -> Any:
    """Draws the filters of a convolution layer, zero white, all on one scale.

    A filter over three channels is drawn in colour; over more, one row a filter with its first channels.

    Args:
        layer: a layer with a `weight` [out, in/groups, kh, kw] (or [out, in/groups, k]), or such a tensor.
        columns: how many pictures a row.
        cmap: a matplotlib colour map.

    Raises:
        TypeError: no `weight`. ValueError: not the weight of a 1-D or 2-D convolution.
    """
    weight = getattr(layer, "weight", layer)
    if not hasattr(weight, "shape"):
        raise TypeError(f"show_filters: layer must have a weight, {type(layer).__name__} has none")
    array = array_of(weight, "layer", "show_filters")
    if array.ndim == 3:
        array = array[:, :, None, :]
    if array.ndim != 4 or not array.size:
        raise ValueError(
            f"show_filters: weight of shape {show_shape(array.shape)} must be [out, in/groups, kh, kw]: "
            "a 1-D or 2-D convolution"
        )
    low, high = limits(array, True)
    outs, ins = array.shape[:2]
    heading = f"{type(layer).__name__} {show_shape(array.shape)}, {low:.3g} to {high:.3g}"
    if ins == 3:
        coloured = [np.clip((np.moveaxis(f, 0, -1) - low) / (high - low), 0, 1) for f in array]
        return draw_grid(coloured, heading, columns, cmap, (low, high))
    if ins == 1:
        return draw_grid(list(array[:, 0]), heading, columns, cmap, (low, high))
    wide = min(ins, columns or 8)
    tall = max(1, MAX_PLANES // wide)
    planes = [array[o, i] for o in range(min(outs, tall)) for i in range(wide)]
    note = f"; one row a filter, {min(outs, tall)} of {outs}; {wide} of {ins} input channels"
    return draw_grid(planes, heading + note, wide, cmap, (low, high))


def show_feature_maps(
    model: Module, image: Any, layers: Sequence[str] | str | None = None, columns: int = 8, cmap: str = "viridis"
) -> dict[str, Any]:
    """Draws what chosen layers of a network make of one image, a figure a layer, each map on its own scale.

    Args:
        model: the network; it runs in evaluation mode and is left as it was.
        image: [C, H, W] or [1, C, H, W].
        layers: names as in `model.named_modules()`; all layers without children that return maps unless given.
        columns: how many maps a row.
        cmap: a matplotlib colour map.

    Returns:
        The figures by layer name.

    Raises:
        ValueError: no layer of such a name, or several images. TypeError: `model` is no module.
    """
    from juanji import autograd

    if not isinstance(model, Module):
        raise TypeError(f"show_feature_maps: model must be a Module, not {type(model).__name__}")
    x: Any = image
    if not isinstance(x, Tensor):
        raise TypeError(f"show_feature_maps: image must be a tensor, not {type(image).__name__}")
    x = x.unsqueeze(0) if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[0] != 1:
        raise ValueError(f"show_feature_maps: image of shape {show_shape(x.shape)} must be [C, H, W] or [1, C, H, W]")
    known = dict(model.named_modules())
    chosen = [layers] if isinstance(layers, str) else list(layers) if layers is not None else []
    for name in chosen:
        if name not in known:
            raise ValueError(f"show_feature_maps: no layer {name!r}; there are {', '.join(filter(None, known))}")
    if layers is None:
        chosen = [name for name, m in known.items() if not list(m.children())]
    maps: dict[str, NDArray[Any]] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.numel():
                maps[name] = array_of(output, "output", "show_feature_maps")[0]

        return hook

    handles = [known[name].register_forward_hook(keep(name)) for name in chosen]
    try:
        with evaluating(model), autograd.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in chosen if name not in maps]
    if layers is not None and missing:
        raise ValueError(f"show_feature_maps: {', '.join(missing)} returned no maps [N, C, H, W]")
    return {
        name: draw_grid(
            list(maps[name]),
            f"{name or 'output'}: {type(known[name]).__name__} {show_shape(maps[name].shape)}",
            columns,
            cmap,
            None,
        )
        for name in chosen
        if name in maps
    }
