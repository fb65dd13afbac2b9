"""The report's charts: curves, the confusion matrix, the reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from juanji.metrics import Calibration, Counts
from juanji.report.drawing import Circle, Drawing, Line, Path, Rect, Text, measure, plain, shortened
from juanji.report.texts import Texts

#: Classes that a confusion matrix shows at most; of more, those with the most mistakes.
MOST_CLASSES = 40
_WIDTH, _HEIGHT = 360, 268
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 62, 36


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from at least `low` to at most `high`, in equal steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(3, 3)
    [3.0]
    """
    if not high > low:
        return [float(low)]
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def epoch_of(row: dict[str, Any], place: int) -> float:
    """The number of an epoch; a head that was solved for is epoch 0."""
    number = row.get("epoch")
    return float(place + 1 if number is None else number)


def known(history: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(epoch, value) of each row of a history that has a finite one."""
    found = []
    for i, row in enumerate(history):
        value = row.get(key)
        if isinstance(value, (list, tuple)):  # learning rates of parameter groups: the highest is the head's
            value = max((v for v in value if isinstance(v, (int, float))), default=None)
        if isinstance(value, (int, float)) and math.isfinite(value):
            found.append((epoch_of(row, i), float(value)))
    return found


def curves(history: Sequence[dict[str, Any]], best: int, texts: Texts) -> list[Drawing]:
    """Loss, accuracy and learning rate over the epochs; those of which fewer than two epochs are known are left out.

    Args:
        history: of an `Outcome`.
        best: the epoch whose weights were kept; 0 for none.
        texts: in the reader's language.
    """
    panels = (
        ("loss", ("train_loss", "val_loss"), (0.0, None), "{:.3g}"),
        ("accuracy", ("train_accuracy", "val_accuracy"), (None, 1.0), "{:.0%}"),
        ("learning_rate", ("lr",), (0.0, None), "{:.2g}"),
    )
    drawings = []
    for title, keys, ends, form in panels:
        lines = {key: known(history, key) for key in keys}
        if any(len(line) > 1 for line in lines.values()):
            drawings.append(_panel(history, texts[title], lines, ends, form, best, texts))
    return drawings


def _panel(
    history: Sequence[dict[str, Any]],
    title: str,
    lines: dict[str, list[tuple[float, float]]],
    ends: tuple[float | None, float | None],
    form: str,
    best: int,
    texts: Texts,
) -> Drawing:
    values = [v for line in lines.values() for _, v in line]
    low = min(values) if ends[0] is None else ends[0]
    high = max(values) if ends[1] is None else ends[1]
    if ends[0] is None:  # accuracies: from a round number below the lowest
        low = math.floor(max(0.0, low - 0.02) * 10) / 10
    elif not high > low:
        high = low + 1
    marks = ticks(low, high * (1 if ends[1] is not None else 1.02))
    if ends[1] is None and marks[-1] < high:
        marks.append(round(2 * marks[-1] - marks[-2], 12) if len(marks) > 1 else high)
    high = max(high, marks[-1])
    epochs = sorted({e for line in lines.values() for e, _ in line})
    first, last = epochs[0], max(epochs[-1], epochs[0] + 1)
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(epoch: float, value: float) -> tuple[float, float]:
        down = (high - value) / (high - low)
        return _LEFT + wide * (epoch - first) / (last - first), _TOP + tall * min(max(down, 0.0), 1.0)

    drawing = Drawing(_WIDTH, _HEIGHT, title)
    _phases(drawing, history, at, first, last, high)
    for mark in marks:
        _, y = at(first, mark)
        drawing.add(Line(_LEFT, y, _WIDTH - _RIGHT, y), Text(_LEFT - 7, y + 4, form.format(mark), 11, "muted", "end"))
    whole = [e for e in ticks(first, last, 8) if e == int(e)]
    for epoch in whole:
        x, _ = at(epoch, low)
        drawing.add(Text(x, _HEIGHT - _BOTTOM + 16, f"{epoch:g}", 11, "muted", "middle"))
    drawing.add(Text(_LEFT + wide / 2, _HEIGHT - 5, texts["epoch"], 11, "muted", "middle"))
    drawing.add(Text(_LEFT, 17, title, 13, bold=True))
    if first <= best <= last and best in epochs:
        x, _ = at(best, low)
        drawing.add(Line(x, _TOP, x, _TOP + tall, "muted", 1, True))
    left, fine = float(_LEFT), form.replace(".0%", ".1%")
    said = []
    for key, line in lines.items():
        if not line:
            continue
        kind, _, _ = key.partition("_")
        colour = "first" if kind == "train" else "second"
        drawing.add(Path([at(e, v) for e, v in line], colour, 2.2, kind == "train"))
        shown = next((v for e, v in line if e == best), line[-1][1])
        if len(line) == 1 or any(e == best for e, _ in line):
            drawing.add(Circle(*at(best if any(e == best for e, _ in line) else line[0][0], shown), 3.5, colour))
        if len(lines) > 1:
            text = f"{texts[kind]} {fine.format(shown)}"
            drawing.add(Line(left, 31, left + 18, 31, colour, 2.5, kind == "train"))
            drawing.add(Text(left + 24, 35, text, 11.5, "muted"))
            left += measure(text, 11.5) + 38
        said.append(f"{texts[key]}: {fine.format(line[0][1])} → {fine.format(line[-1][1])}")
    drawing.description = texts.say(
        "curve_description", first=f"{first:g}", last=f"{epochs[-1]:g}", lines="; ".join(said)
    )
    return drawing


def _phases(
    drawing: Drawing, history: Sequence[dict[str, Any]], at: Any, first: float, last: float, high: float
) -> None:
    """A band and a name for each run of epochs of one phase, where there is more than one."""
    runs: list[tuple[str, float, float]] = []
    for i, row in enumerate(history):
        name, epoch = str(row.get("phase") or ""), epoch_of(row, i)
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1], epoch)
        else:
            runs.append((name, epoch, epoch))
    if len(runs) < 2:
        return
    for i, (name, begin, end) in enumerate(runs):
        left, top = at(max(first, begin - 0.5) if i else first, high)
        right, _ = at(min(last, end + 0.5) if i < len(runs) - 1 else last, high)
        if right - left < 1:
            continue
        if i % 2 == 0:
            drawing.add(Rect(left, top - 15, right - left, _HEIGHT - _BOTTOM - top + 15, "band"))
        label = shortened(name, right - left - 6, 10)
        if label != "…":
            drawing.add(Text(left + 4, top - 4, label, 10, "muted"))


def confusion(table: Counts, classes: Sequence[str], texts: Texts) -> Drawing:
    """The confusion matrix: rows are true classes, columns predicted ones, shade is the share of the row."""
    shown = list(range(len(classes)))
    if len(shown) > MOST_CLASSES:
        wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * table.diagonal()
        shown = sorted(sorted(shown, key=lambda c: (-int(wrong[c]), c))[:MOST_CLASSES])
    count = len(shown)
    size = 46 if count <= 4 else 38 if count <= 10 else 28 if count <= 20 else 20
    letters = 12 if size >= 28 else 10.5
    names = [shortened(classes[c], 130, letters) for c in shown]
    margin = max(measure(name, letters) for name in names) + 12
    # Names above the columns are turned by 45 degrees; the last one reaches to the right of the matrix.
    up = margin * 0.72 + 10
    left, top = margin + 24, up + 24
    drawing = Drawing(left + count * size + max(24, up - size / 2), top + count * size + 10, texts["confusion"])
    drawing.add(Text(left, 15, texts["predicted_axis"], 11.5, "muted"))
    drawing.add(Text(13, top + count * size / 2, texts["true_axis"], 11.5, "muted", "middle", angle=-90))
    totals = table.sum(axis=1)
    for row, true in enumerate(shown):
        y = top + row * size
        drawing.add(Text(left - 6, y + size / 2 + 4, names[row], letters, "ink", "end"))
        drawing.add(Text(left + (row + 0.6) * size, top - 7, names[row], letters, "ink", angle=-45))
        for column, said in enumerate(shown):
            number = int(table[true, said])
            share = number / totals[true] if totals[true] else 0.0
            x = left + column * size
            tip = texts.say("cell", true=plain(classes[true]), said=plain(classes[said]), number=number)
            drawing.add(Rect(x + 0.5, y + 0.5, size - 1, size - 1, "band"))
            if number:
                drawing.add(
                    Rect(
                        x + 0.5,
                        y + 0.5,
                        size - 1,
                        size - 1,
                        "heat" if true == said else "wrong",
                        0.12 + 0.88 * share,
                        tip,
                    )
                )
                colour = "paper" if share > 0.75 else "ink"
                drawing.add(Text(x + size / 2, y + size / 2 + 4, str(number), min(12, size * 0.5), colour, "middle"))
    drawing.description = texts.say("confusion_description", right=int(table.trace()), count=int(table.sum()))
    return drawing


def reliability(found: Calibration, texts: Texts) -> Drawing:
    """Accuracy over confidence, and below how many pictures each bin has."""
    side, low_height, left, top = 250, 56, 52, 30
    width, bottom = left + side + 16, top + side
    drawing = Drawing(width, bottom + low_height + 52, texts["calibration"])
    drawing.add(Text(left, 15, texts["calibration"], 13, bold=True))
    drawing.add(Text(width - 16, 15, f"ECE {found.ece:.1%}", 11.5, "muted", "end"))
    for mark in ticks(0, 1):
        y, x = bottom - mark * side, left + mark * side
        drawing.add(Line(left, y, left + side, y), Text(left - 7, y + 4, f"{mark:.0%}", 11, "muted", "end"))
        drawing.add(Text(x, bottom + low_height + 26, f"{mark:.0%}", 11, "muted", "middle"))
    most = max(1, int(found.counts.max()))
    said = []
    for i, number in enumerate(found.counts):
        x, right = left + float(found.edges[i]) * side, left + float(found.edges[i + 1]) * side
        if not number:
            continue
        good, sure = float(found.accuracy[i]), float(found.confidence[i])
        tip = texts.say(
            "bin",
            low=f"{found.edges[i]:.0%}",
            high=f"{found.edges[i + 1]:.0%}",
            number=int(number),
            right=f"{good:.0%}",
        )
        said.append(tip)
        low, high = min(good, sure), max(good, sure)
        drawing.add(Rect(x + 1, bottom - low * side, right - x - 2, low * side, "heat", 0.85, tip))
        drawing.add(Rect(x + 1, bottom - high * side, right - x - 2, (high - low) * side, "wrong", 0.45, tip))
        drawing.add(Line(x + 1, bottom - good * side, right - 1, bottom - good * side, "ink", 2.5))
        height = max(1.5, int(number) / most * (low_height - 8))
        drawing.add(Rect(x + 1, bottom + low_height + 8 - height, right - x - 2, height, "muted", 1, tip))
    drawing.add(
        Line(left, bottom, left + side, top, "ink", 1.2, True), Line(left, bottom, left + side, bottom, "muted")
    )
    drawing.add(Line(left, bottom + low_height + 8, left + side, bottom + low_height + 8, "muted"))
    drawing.add(Text(left + side / 2, bottom + low_height + 44, texts["confidence"], 11, "muted", "middle"))
    drawing.add(Text(13, top + side / 2, texts["accuracy"], 11, "muted", "middle", angle=-90))
    drawing.add(Text(13, bottom + 8 + low_height / 2, texts["pictures"], 11, "muted", "middle", angle=-90))
    drawing.description = texts.say("calibration_description", ece=f"{found.ece:.1%}", bins="; ".join(said))
    return drawing
