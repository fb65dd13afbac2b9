"""Writing a report: the page, and its charts as PNG files beside it."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from juanji.formats.container import write_whole
from juanji.report import charts, raster
from juanji.report.drawing import Drawing, Picture, Text, shortened
from juanji.report.findings import Findings, findings
from juanji.report.page import caption, page
from juanji.report.pictures import Thumbnail, thumbnails
from juanji.report.texts import Texts

if TYPE_CHECKING:
    from juanji.tune.outcome import Outcome


def write(outcome: Outcome, path: str | os.PathLike[str], language: str = "en", *, images: bool = False) -> list[Path]:
    """Writes a report of a fine-tuning as one HTML file, which shows without any other file and without a network.

    Curves, confusion matrix, metrics of each class, calibration, the most confident mistakes and the least certain
    pictures with Grad-CAM maps, how it was trained and why so, the data, and a model card.

    Args:
        outcome: what `juanji.finetune` returned.
        path: the file to write, by convention `*.html`; replaced whole or not at all.
        language: "en", or "zh" for Simplified Chinese.
        images: write the charts and pictures also as PNG files beside it, named after it. Chinese text in them needs a
            font of the system that has it.

    Returns:
        The files written, the page first.

    Raises:
        ValueError: another language; no pictures were evaluated, or what the outcome says of them doesn't fit together.
        OSError: a file can't be written.
    """
    texts = Texts(language)
    found = findings(outcome)
    pictures = thumbnails(outcome, [*found.mistakes, *found.uncertain])
    target = Path(path)
    write_whole(target, page(outcome, found, pictures, texts).encode("utf-8"))
    written = [target]
    if images:
        for name, drawing in sheets(outcome, found, pictures, texts).items():
            file = target.with_name(f"{target.stem}-{name}.png")
            content = io.BytesIO()
            raster.image(drawing).save(content, "PNG", optimize=True)
            write_whole(file, content.getvalue())
            written.append(file)
    return written


def sheets(outcome: Outcome, found: Findings, pictures: dict[int, Thumbnail], texts: Texts) -> dict[str, Drawing]:
    """The report's charts and sheets of pictures, by name; those that would be empty are left out."""
    drawn = {
        "confusion": charts.confusion(found.confusion, outcome.classes, texts),
        "calibration": charts.reliability(found.calibration, texts),
    }
    curves = charts.curves(outcome.history, outcome.best_epoch, texts)
    if curves:
        drawn["curves"] = _side_by_side(curves, texts["curves"])
    for name, chosen in (("mistakes", found.mistakes), ("uncertain", found.uncertain)):
        there = [number for number in chosen if number in pictures]
        if there:
            drawn[name] = _contact_sheet(outcome, found, there, pictures, texts, texts[name])
    return drawn


def _side_by_side(drawings: Sequence[Drawing], title: str) -> Drawing:
    from dataclasses import replace

    sheet = Drawing(sum(d.width for d in drawings), max(d.height for d in drawings), title)
    left = 0.0
    for drawing in drawings:
        for shape in drawing.shapes:
            moved = {key: getattr(shape, key) + left for key in ("x", "x1", "x2") if hasattr(shape, key)}
            if hasattr(shape, "points"):
                moved["points"] = [(x + left, y) for x, y in shape.points]
            sheet.add(replace(shape, **moved))
        left += drawing.width
    return sheet


def _contact_sheet(
    outcome: Outcome,
    found: Findings,
    chosen: Sequence[int],
    pictures: dict[int, Thumbnail],
    texts: Texts,
    title: str,
    columns: int = 4,
) -> Drawing:
    side, gap, words = 120, 18, 38
    wide, tall = 2 * side + 4 + gap, side + words + gap
    columns = min(columns, len(chosen))
    sheet = Drawing(columns * wide + gap, -(-len(chosen) // columns) * tall + gap + 28, title)
    sheet.add(Text(gap, 26, title, 15, bold=True))
    for place, number in enumerate(chosen):
        x, y = gap + place % columns * wide, 28 + gap + place // columns * tall
        picture = pictures[number]
        height, width = picture.plain.shape[:2]
        scale = side / max(height, width)
        for i, pixels in enumerate((picture.plain, picture.seen)):
            if pixels is not None:
                sheet.add(Picture(x + i * (side + 4), y, width * scale, height * scale, pixels))
        text, numbers, right = caption(outcome, found, number, texts)
        true = shortened(outcome.classes[int(outcome.labels[number])], 2 * side, 12)
        sheet.add(
            Text(x, y + side + 15, shortened(f"{true} · {text}", 2 * side, 12), 12, "right" if right else "wrong")
        )
        sheet.add(Text(x, y + side + 31, shortened(numbers, 2 * side, 11), 11, "muted"))
    return sheet
