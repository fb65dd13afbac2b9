"""`jj.plot_arithmetic`: a convolution or a pooling drawn with its windows, padding and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import juanji.tensors as T
from juanji import autograd
from juanji.nn.module import Module
from juanji.spec import numbers
from juanji.spec import show as show_shape
from juanji.visual.figures import array_of, finish, limits, pyplot, text_of, write_numbers

#: Larger inputs cannot be read with their numbers.
MAX_SIDE = 20
_FIRST, _SECOND = "#d62728", "#1f77b4"


def _pads(layer: Any, kernel: tuple[int, int], dilation: tuple[int, int]) -> list[tuple[int, int]]:
    padding = getattr(layer, "padding", 0)
    if padding == "valid":
        return [(0, 0), (0, 0)]
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in totals]
    return [(p, p) for p in numbers(padding, 2, "padding")]


def _padded(x: NDArray[Any], pads: list[tuple[int, int]], mode: str, kind: str) -> NDArray[Any]:
    if kind == "MaxPool2d":  # padding never wins
        return np.pad(x, pads, constant_values=-np.inf)
    modes: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return np.pad(x, pads, mode=modes[mode])


def plot_arithmetic(layer: Module, input: Any = None, output: tuple[int, int] = (0, 0)) -> Any:
    """Draws how one output of a convolution or pooling layer comes about.

    Left the input with its padding (hatched) and the window of one output in red, the next one's in blue where there
    is one; in the middle the kernel; right the output. Below, the sum in numbers. One channel is drawn; of a layer
    with several, the first filter and the first channel, and the text says so.

    Args:
        layer: `Conv2d`, `MaxPool2d` or `AvgPool2d`.
        input: [H, W], [C, H, W] or [1, C, H, W]; 0, 1, 2 ... in a small square unless given.
        output: (row, column) of the output whose window is drawn.

    Returns:
        The matplotlib figure.

    Raises:
        TypeError: another layer. ValueError: an input too large to be read. IndexError: no such output.

    >>> import juanji as jj
    >>> figure = jj.plot_arithmetic(jj.nn.Conv2d(1, 1, 3, padding=1))  # doctest: +SKIP
    """
    kind = type(layer).__name__
    if kind not in ("Conv2d", "MaxPool2d", "AvgPool2d"):
        raise TypeError(f"plot_arithmetic: layer must be a Conv2d, MaxPool2d or AvgPool2d, not {kind}")
    any_layer: Any = layer
    kernel = _pair(numbers(any_layer.kernel_size, 2, "kernel_size"))
    stride = _pair(numbers(any_layer.stride, 2, "stride"))
    dilation = _pair(numbers(getattr(any_layer, "dilation", 1), 2, "dilation"))
    weight = getattr(any_layer, "weight", None)
    pads = _pads(any_layer, kernel, dilation)
    channels = 1 if weight is None else any_layer.in_channels
    x = _input(input, channels, kernel, stride, dilation, weight)
    with autograd.no_grad():
        result = array_of(any_layer(x), "output", "plot_arithmetic")
    plane, made = array_of(x, "input", "plot_arithmetic")[0, 0], result[0, 0]
    if max(plane.shape) > MAX_SIDE:
        raise ValueError(
            f"plot_arithmetic: input of shape {show_shape(plane.shape)} is too large to read its numbers; "
            f"give one of at most {MAX_SIDE} by {MAX_SIDE}"
        )
    row, column = output
    if not (0 <= row < made.shape[0] and 0 <= column < made.shape[1]):
        raise IndexError(f"plot_arithmetic: output={output} is not within the output of shape {show_shape(made.shape)}")
    wide = _padded(plane, pads, getattr(any_layer, "padding_mode", "zeros"), kind)
    _, overhang = _reach(made.shape, kernel, stride, dilation, wide.shape)
    wide = _padded(wide, overhang, "zeros", kind)
    filters = None if weight is None else array_of(weight, "weight", "plot_arithmetic")[0, 0]
    places = [(row * stride[0] + y * dilation[0], column * stride[1] + z * dilation[1]) for y, z in np.ndindex(kernel)]
    return _draw(
        _title(any_layer, kind, plane.shape, made.shape, kernel, stride, dilation, channels),
        (wide, (pads[0][0], pads[1][0]), plane.shape),
        filters,
        (made, (row, column)),
        (places, stride, kernel),
        _sentence(any_layer, kind, wide, places, filters, made[row, column], channels),
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _input(input: Any, channels: int, kernel: Any, stride: Any, dilation: Any, weight: Any) -> Any:
    if input is None:
        side = [
            min(MAX_SIDE, max(5, d * (k - 1) + 1 + 2 * s)) for k, s, d in zip(kernel, stride, dilation, strict=True)
        ]
        x: Any = T.arange(side[0] * side[1]).reshape(1, 1, *side).expand(1, channels, *side).clone()
    else:
        x = T.tensor(array_of(input, "input", "plot_arithmetic"))
        x = x.reshape((1,) * (4 - x.ndim) + tuple(x.shape)) if x.ndim < 4 else x
        if x.ndim != 4 or x.shape[0] != 1:
            raise ValueError(
                f"plot_arithmetic: input of shape {show_shape(x.shape)} must be [H, W], [C, H, W] or [1, C, H, W]"
            )
    return x.to(T.tensor(0.0).dtype if weight is None else weight.dtype)


def _reach(made: Any, kernel: Any, stride: Any, dilation: Any, wide: Any) -> tuple[list[int], list[tuple[int, int]]]:
    """How far windows reach, and how much of that lies beyond the padded input (ceil_mode)."""
    reach = [(o - 1) * s + d * (k - 1) + 1 for o, s, k, d in zip(made, stride, kernel, dilation, strict=True)]
    return reach, [(0, max(0, r - w)) for r, w in zip(reach, wide, strict=True)]


def _title(layer: Any, kind: str, given: Any, made: Any, kernel: Any, stride: Any, dilation: Any, channels: int) -> str:
    padding = getattr(layer, "padding", 0)
    text = f"{kind}: {given[0]}x{given[1]} to {made[0]}x{made[1]}, kernel {kernel[0]}x{kernel[1]}, stride {stride[0]}"
    text += "" if stride[0] == stride[1] else f"x{stride[1]}"
    text += f", padding {padding}" + (f", dilation {dilation}" if dilation != (1, 1) else "")
    return text + (f" (channel 1 of {channels}, filter 1 of {layer.out_channels})" if channels > 1 else "")


def _sentence(layer: Any, kind: str, wide: NDArray[Any], places: Any, filters: Any, value: Any, channels: int) -> str:
    seen = [wide[p] for p in places]
    if kind == "MaxPool2d":
        return f"max({', '.join(map(text_of, seen))}) = {text_of(value)}"
    if filters is None:
        return f"({' + '.join(map(text_of, seen))}) / divisor = {text_of(value)}"
    terms = [f"{text_of(v)}·{_factor(w)}" for v, w in zip(seen, filters.reshape(-1), strict=True)]
    lines = [" + ".join(terms[i : i + 6]) for i in range(0, len(terms), 6)]
    more = [] if layer.bias is None else [f"+ bias {text_of(layer.bias.detach().numpy()[0])}"]
    rest = [f"+ the same over {channels - 1} more channels"] if channels > 1 else []
    return " +\n".join(lines) + "\n" + " ".join([*rest, *more, f"= {text_of(value)}"])


def _factor(value: Any) -> str:
    return f"({text_of(value)})" if value < 0 else text_of(value)


def _draw(title: str, given: Any, filters: Any, made: Any, windows: Any, sentence: str) -> Any:
    plt = pyplot()
    wide, corner, inside = given
    out, (row, column) = made
    places, stride, kernel = windows
    ratios = [wide.shape[1], *([] if filters is None else [max(2, filters.shape[1])]), max(2, out.shape[1])]
    figure, axes = plt.subplots(
        1,
        len(ratios),
        squeeze=False,
        figsize=(0.55 * sum(ratios) + 2, 0.55 * max(wide.shape[0], out.shape[0]) + 1.8),
        gridspec_kw={"width_ratios": ratios},
        layout="constrained",
    )
    panels = list(axes[0])
    _cells(panels[0], wide, "gray_r", "input with padding" if wide.shape != inside else "input")
    for y, x in np.ndindex(wide.shape):
        if not (corner[0] <= y < corner[0] + inside[0] and corner[1] <= x < corner[1] + inside[1]):
            panels[0].add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, hatch="///", edgecolor="#bbbbbb"))
    step = (0, stride[1]) if column + 1 < out.shape[1] else (stride[0], 0) if row + 1 < out.shape[0] else None
    if step is not None:
        _frames(panels[0], [(y + step[0], x + step[1]) for y, x in places], _SECOND, 1.5, 0.06)
    _frames(panels[0], places, _FIRST, 2.5, 0.0)
    if filters is not None:
        _cells(panels[1], filters, "RdBu_r", "kernel", symmetric=True)
        _frames(panels[1], list(np.ndindex(kernel)), _FIRST, 2.5, 0.0)
    _cells(panels[-1], out, "RdBu_r" if out.min() < 0 else "gray_r", "output", symmetric=bool(out.min() < 0))
    if step is not None:
        _frames(panels[-1], [(row + (step[0] > 0), column + (step[1] > 0))], _SECOND, 1.5, 0.06)
    _frames(panels[-1], [(row, column)], _FIRST, 2.5, 0.0)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(sentence, fontsize=8)
    return finish(figure)


def _cells(axes: Any, plane: NDArray[Any], cmap: str, title: str, symmetric: bool = False) -> None:
    low, high = limits(plane, symmetric)
    axes.imshow(
        plane, cmap=cmap, vmin=low, vmax=high + (high - low if cmap == "gray_r" else 0), interpolation="nearest"
    )
    write_numbers(axes, plane, low, high + (high - low if cmap == "gray_r" else 0), cmap)
    axes.set_xticks(np.arange(-0.5, plane.shape[1]), minor=True)
    axes.set_yticks(np.arange(-0.5, plane.shape[0]), minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.8)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes.set_title(title, fontsize=9)


def _frames(axes: Any, places: list[tuple[int, int]], colour: str, width: float, inset: float) -> None:
    plt = pyplot()
    for y, x in places:
        axes.add_patch(
            plt.Rectangle(
                (x - 0.5 + inset, y - 0.5 + inset),
                1 - 2 * inset,
                1 - 2 * inset,
                fill=False,
                edgecolor=colour,
                linewidth=width,
            )
        )
