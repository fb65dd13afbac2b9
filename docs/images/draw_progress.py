"""Draws `progress.png`: what `juanji train mnist` shows, from a real run of it.

The program runs in this process with text files that say they are terminals; the bars are taken as they stand in the
middle of the training, the rest from what the program printed. The fonts are DejaVu's.

    python docs/images/draw_progress.py
"""

import io
import os
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console, Group
from rich.terminal_theme import MONOKAI
from rich.text import Text

from juanji.cli import display
from juanji.train.loop import Listener

COLUMNS, SIZE, LINE, MARGIN = 110, 15, 18, 14
PAPER, INK = "#1b1f24", "#d0d7de"


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self):
        return True


class Watcher(Listener):
    """Passes everything on, and keeps the bars of the middle and of the end."""

    def __init__(self, inner, bars, epochs, kept):
        self.inner, self.bars, self.epochs, self.kept = inner, bars, epochs, kept

    def _keep(self, name):
        console = Console(file=io.StringIO(), force_terminal=True, width=COLUMNS, color_system="truecolor")
        console.print(self.bars.get_renderable())
        self.kept[name] = console.file.getvalue()

    def progress(self, progress):
        self.inner.progress(progress)
        self._look(progress)

    def epoch(self, progress):
        self.inner.epoch(progress)
        self._look(progress)
        if progress.epoch == self.epochs:
            self._keep("end")

    def _look(self, progress):
        if progress.epoch > self.epochs // 2 and "middle" not in self.kept:
            self._keep("middle")


def run():
    """What a first training printed, its kernels not yet compiled: (first line, middle bars, last bars, tables)."""
    kept, out, err = {}, Terminal(), Terminal()
    original = display.listener
    display.listener = lambda bars, epochs: Watcher(original(bars, epochs), bars, epochs, kept)
    os.environ.update(COLUMNS=str(COLUMNS), TERM="xterm", COLORTERM="truecolor", JUANJI_CACHE="0")
    os.environ.pop("NO_COLOR", None)
    from juanji.cli.main import app

    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(out), redirect_stderr(err):
        os.chdir(folder)
        code = app(["train", "mnist"], standalone_mode=False)
        os.chdir(before)
    if code:
        sys.exit(err.getvalue())
    first = next(line for line in err.getvalue().splitlines() if line.startswith("data:"))
    return first, kept["middle"], kept["end"], out.getvalue()


def draw(text, path):
    """Draws text with a terminal's colours, one cell for each character."""
    font, bold, braille = (ImageFont.truetype(f"DejaVuSans{name}.ttf", SIZE) for name in ("Mono", "Mono-Bold", ""))
    cell = font.getlength("M")
    console = Console(file=io.StringIO(), force_terminal=True, width=COLUMNS, color_system="truecolor")
    lines = console.render_lines(text, pad=False)
    size = (int(COLUMNS * cell) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN)
    page = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(page)
    for row, segments in enumerate(lines):
        column = 0
        for segment in segments:
            style, colour = segment.style, INK
            if style and style.color:
                colour = style.color.get_truecolor(MONOKAI).hex
            if style and style.dim:
                colour = "#8b949e"
            for character in segment.text:
                at = (MARGIN + column * cell, MARGIN + row * LINE + LINE / 2)
                face = braille if 0x2800 <= ord(character) < 0x2900 else bold if style and style.bold else font
                pen.text(at, character, colour, face, anchor="lm")
                column += 1
    page.quantize(64).save(path, optimize=True)


def main():
    first, middle, end, tables = run()
    parts = [
        Text.assemble(("$ ", "green"), "juanji train mnist"),
        Text(first),
        Text.from_ansi(middle),
        Text("... and at the end", style="dim"),
        Text.from_ansi(end),
        Text.from_ansi(tables),
    ]
    path = Path(__file__).with_name("progress.png")
    draw(Group(*parts), path)
    print(f"{path}: {path.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
