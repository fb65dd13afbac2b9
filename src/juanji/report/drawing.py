"""Drawings as lists of shapes, and their SVG. `juanji.report.raster` makes pixels of the same shapes."""

from __future__ import annotations

import base64
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Unicode's categories of what is no visible character, and two of them that scripts and emoji are spelt with.
_ACTING, _JOINERS = ("Cc", "Cf", "Cs", "Zl", "Zp"), "\u200c\u200d"
#: Colours by their role, on light and on dark paper. Blue and orange are told apart by all eyes.
COLOURS = {
    "ink": ("#1d2430", "#e8eaee"),
    "muted": ("#5b6472", "#a3abb8"),
    "grid": ("#e2e6ec", "#333b47"),
    "band": ("#f3f5f8", "#12161c"),
    "paper": ("#ffffff", "#1c222b"),
    "first": ("#c2570c", "#f0943f"),
    "second": ("#1d63c4", "#6ea8fe"),
    "heat": ("#1d63c4", "#6ea8fe"),
    "wrong": ("#b42318", "#f97066"),
    "right": ("#157f46", "#4cc38a"),
}


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    colour: str = "grid"
    width: float = 1
    dashed: bool = False


@dataclass(frozen=True)
class Path:
    """A line through points."""

    points: Sequence[tuple[float, float]]
    colour: str
    width: float = 2
    dashed: bool = False


@dataclass(frozen=True)
class Rect:
    """A filled rectangle; `tip` is shown where the pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    opacity: float = 1
    tip: str = ""


@dataclass(frozen=True)
class Circle:
    """A filled circle."""

    x: float
    y: float
    radius: float
    colour: str
    tip: str = ""


@dataclass(frozen=True)
class Text:
    """A line of text: (x, y) is on its base line, at its "start", "middle" or "end"; `angle` turns it around there."""

    x: float
    y: float
    text: str
    size: float = 12
    colour: str = "ink"
    anchor: str = "start"
    bold: bool = False
    angle: float = 0


@dataclass(frozen=True)
class Picture:
    """Pixels, uint8 (height, width, 3), in a rectangle."""

    x: float
    y: float
    width: float
    height: float
    pixels: NDArray[np.uint8]


Shape = Line | Path | Rect | Circle | Text | Picture


@dataclass
class Drawing:
    """Shapes on a sheet.

    Attributes:
        width, height: of the sheet, in units of about a pixel.
        title: what it is, for those who don't see it.
        description: what it shows, in a sentence or more, likewise.
        shapes: in the order in which they are drawn.
    """

    width: float
    height: float
    title: str
    description: str = ""
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        """Draws shapes on top of what is there."""
        self.shapes.extend(shapes)


def plain(text: object) -> str:
    """Text without what would act on its surroundings: control characters, and marks that turn the reading direction.

    >>> plain("a\\x00b\\u202egnp.exe")
    'a�b�gnp.exe'
    """
    return "".join("�" if unicodedata.category(c) in _ACTING and c not in _JOINERS else c for c in str(text))


def safe(text: object) -> str:
    """Any text as HTML or XML, also in an attribute's quotes.

    >>> safe('<img src="x">')
    '&lt;img src=&quot;x&quot;&gt;'
    """
    return escape(plain(text), quote=True)


def measure(text: str, size: float = 12) -> float:
    """About how wide a text is: Chinese characters are as wide as high, others about half of that.

    >>> measure("ab", 10) < measure("卷积", 10) == 20
    True
    """
    wide = sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in text)
    return wide * size


def shortened(text: str, width: float, size: float = 12) -> str:
    """A text of at most this width, with an ellipsis where it had more.

    >>> shortened("a long name", 40), shortened("short", 40)
    ('a lo…', 'short')
    """
    text = plain(text)
    if measure(text, size) <= width:
        return text
    while text and measure(text, size) + 0.58 * size > width:
        text = text[:-1]
    return text.rstrip() + "…"


def encoded(pixels: NDArray[np.uint8], quality: int = 85) -> str:
    """Pixels (height, width, 3) as the address of a JPEG that holds itself."""
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode()


def svg(drawing: Drawing, name: str) -> str:
    """The drawing as SVG to stand inside a page, whose style sheet has the colours as variables `--ink` and so on.

    Args:
        drawing: what to show.
        name: a word that no other drawing of the page has.
    """
    size = f"{_n(drawing.width)} {_n(drawing.height)}"
    parts = [
        f'<svg viewBox="0 0 {size}" width="{_n(drawing.width)}" role="img" aria-labelledby="{name}-t {name}-d">',
        f'<title id="{name}-t">{safe(drawing.title)}</title><desc id="{name}-d">{safe(drawing.description)}</desc>',
        *(_svg(shape) for shape in drawing.shapes),
        "</svg>",
    ]
    return "".join(parts)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _paint(colour: str, kind: str = "fill") -> str:
    if colour not in COLOURS:
        raise ValueError(f"colour={colour!r} is none of {', '.join(COLOURS)}")
    return f'{kind}="var(--{colour})"'


def _svg(shape: Shape) -> str:
    tip = f"<title>{safe(shape.tip)}</title>" if isinstance(shape, (Rect, Circle)) and shape.tip else ""
    if isinstance(shape, Line):
        ends = f'x1="{_n(shape.x1)}" y1="{_n(shape.y1)}" x2="{_n(shape.x2)}" y2="{_n(shape.y2)}"'
        return f"<line {ends} {_stroke(shape)}/>"
    if isinstance(shape, Path):
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
        return f'<polyline points="{points}" fill="none" stroke-linejoin="round" {_stroke(shape)}/>'
    if isinstance(shape, Rect):
        place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
        opacity = f' fill-opacity="{shape.opacity:.3f}"' if shape.opacity < 1 else ""
        return f"<rect {place} {_paint(shape.colour)}{opacity}>{tip}</rect>"
    if isinstance(shape, Circle):
        place = f'cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{_n(shape.radius)}"'
        return f"<circle {place} {_paint(shape.colour)}>{tip}</circle>"
    if isinstance(shape, Text):
        turned = f' transform="rotate({_n(shape.angle)} {_n(shape.x)} {_n(shape.y)})"' if shape.angle else ""
        bold = ' font-weight="600"' if shape.bold else ""
        place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" font-size="{_n(shape.size)}" text-anchor="{shape.anchor}"'
        return f"<text {place} {_paint(shape.colour)}{bold}{turned}>{safe(shape.text)}</text>"
    place = f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
    return f'<image {place} href="{encoded(shape.pixels)}"/>'


def _stroke(shape: Any) -> str:
    dashes = ' stroke-dasharray="5 4"' if shape.dashed else ""
    return f'{_paint(shape.colour, "stroke")} stroke-width="{_n(shape.width)}"{dashes}'
