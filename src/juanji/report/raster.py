"""Drawings as pictures, by Pillow."""

from __future__ import annotations

import functools
import itertools
import math
import os
import sys
from pathlib import Path as File
from typing import Any

from juanji.report.drawing import COLOURS, Circle, Drawing, Line, Path, Picture, Rect, Shape, Text, plain

#: Drawn so many times as large and then reduced: Pillow draws no smooth edges itself.
_FINER = 2
#: Fonts with Chinese characters that systems come with.
_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "STHeiti Light.ttc",
    "msyh.ttc",
    "simhei.ttf",
    "simsun.ttc",
)


def image(drawing: Drawing, scale: float = 2.0) -> Any:
    """The drawing as a Pillow picture on light paper. Chinese needs one of the usual fonts; else boxes show.

    Args:
        drawing: what to draw.
        scale: pixels for each of the drawing's units.
    """
    from PIL import Image, ImageDraw

    size = math.ceil(drawing.width * scale), math.ceil(drawing.height * scale)
    fine = scale * _FINER
    sheet = Image.new("RGB", (size[0] * _FINER, size[1] * _FINER), COLOURS["paper"][0])
    pen = ImageDraw.Draw(sheet, "RGBA")
    for shape in drawing.shapes:
        if not isinstance(shape, (Text, Picture)):
            _draw(pen, shape, fine)
    sheet = sheet.resize(size, Image.Resampling.BOX)
    for shape in drawing.shapes:  # these have smooth edges of their own
        if isinstance(shape, Text):
            _write(sheet, shape, scale)
        elif isinstance(shape, Picture):
            width, height = max(1, round(shape.width * scale)), max(1, round(shape.height * scale))
            pixels = Image.fromarray(shape.pixels).resize((width, height), Image.Resampling.BILINEAR)
            sheet.paste(pixels, (round(shape.x * scale), round(shape.y * scale)))
    return sheet


def _rgba(colour: str, opacity: float = 1) -> tuple[int, int, int, int]:
    digits = COLOURS[colour][0]
    return int(digits[1:3], 16), int(digits[3:5], 16), int(digits[5:7], 16), round(255 * opacity)


def _draw(pen: Any, shape: Shape, scale: float) -> None:
    if isinstance(shape, Rect):
        box = (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
        left, top, right, bottom = (round(v * scale) for v in box)
        if right > left and bottom > top:
            pen.rectangle((left, top, right - 1, bottom - 1), fill=_rgba(shape.colour, shape.opacity))
    elif isinstance(shape, Circle):
        box = (shape.x - shape.radius, shape.y - shape.radius, shape.x + shape.radius, shape.y + shape.radius)
        pen.ellipse([v * scale for v in box], fill=_rgba(shape.colour))
    elif isinstance(shape, (Line, Path)):
        points = [(shape.x1, shape.y1), (shape.x2, shape.y2)] if isinstance(shape, Line) else list(shape.points)
        width = max(1, round(shape.width * scale))
        for piece in _dashes(points) if shape.dashed else [points]:
            pen.line([(x * scale, y * scale) for x, y in piece], fill=_rgba(shape.colour), width=width, joint="curve")


def _dashes(points: list[tuple[float, float]], dash: float = 5, gap: float = 4) -> list[list[tuple[float, float]]]:
    """A line cut into dashes that go on around its corners."""
    pieces: list[list[tuple[float, float]]] = []
    walked = 0.0
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        length = math.hypot(x2 - x1, y2 - y1)
        at = 0.0
        while at < length:
            phase = walked % (dash + gap)
            step = min((dash if phase < dash else dash + gap) - phase, length - at) or length - at
            if phase < dash:
                ends = [(x1 + (x2 - x1) * t / length, y1 + (y2 - y1) * t / length) for t in (at, at + step)]
                pieces.append(ends)
            at, walked = at + step, walked + step
    return pieces


def _write(sheet: Any, shape: Text, scale: float) -> None:
    from PIL import Image, ImageDraw

    text = plain(shape.text)
    if not text:
        return
    font = _font(round(shape.size * scale), text.isascii())
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
    stroke = 0.25 * scale if shape.bold else 0
    colour = _rgba(shape.colour)
    if not shape.angle:
        pen = ImageDraw.Draw(sheet)
        pen.text((shape.x * scale, shape.y * scale), text, colour, font, anchor, stroke_width=stroke)
        return
    reach = math.ceil(font.getlength(text) + 2 * font.size)
    tile = Image.new("L", (2 * reach, 2 * reach))
    ImageDraw.Draw(tile).text((reach, reach), text, 255, font, anchor, stroke_width=stroke)
    tile = tile.rotate(-shape.angle, Image.Resampling.BICUBIC)
    sheet.paste(colour[:3], (round(shape.x * scale) - reach, round(shape.y * scale) - reach), tile)


@functools.lru_cache(maxsize=64)
def _font(size: int, latin: bool) -> Any:
    from PIL import ImageFont

    file = None if latin else _wide_font()
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


@functools.lru_cache(maxsize=1)
def _wide_font() -> str | None:
    """The file of a font that has Chinese characters, if there is one."""
    home = os.path.expanduser("~")
    folders = [f"{home}/.local/share/fonts", f"{home}/.fonts", "/usr/share/fonts", "/usr/local/share/fonts"]
    if sys.platform == "darwin":
        folders = [f"{home}/Library/Fonts", "/Library/Fonts", "/System/Library/Fonts"]
    elif sys.platform == "win32":
        folders = [os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")]
    found: dict[str, str] = {}
    for folder in folders:
        for here, _, names in os.walk(folder):
            found.update({name: str(File(here, name)) for name in names if name in _FONTS and name not in found})
    return next((found[name] for name in _FONTS if name in found), None)
