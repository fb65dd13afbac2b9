"""Draws `report.png`: the beginning of a report, from a real training on the tutorial's shapes. Needs chromium.

python docs/images/draw_report.py
"""

import contextlib
import io
import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import juanji as jj

HERE = Path(__file__).parent
PAGE = HERE.parent / "tutorial" / "en" / "7-fine-tuning.md"
SHAPES = ("moon", "ring", "star", "triangle", "square", "disc", "cross")
WIDTH, HEIGHT = 1120, 1440


def tutorial():
    """What the page's first two blocks define: `pictures`, and the network "small"."""
    names = {"__name__": "tutorial"}
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks[:2]:
            exec(block, names)
    return names


def main():
    with tempfile.TemporaryDirectory() as folder:
        names = tutorial()
        shapes = names["pictures"](Path(folder) / "shapes", SHAPES, 120, seed=4)
        page, picture = Path(folder) / "report.html", Path(folder) / "report.png"
        options = {"recipe": "scratch", "epochs": 40, "lr": 0.01, "val": 0.25, "augment": "light", "ema": 0}
        jj.finetune(shapes, model="small", report=page, **options)
        command = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},2000"]
        command += [f"--user-data-dir={folder}/profile", f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        with Image.open(picture) as shot:
            shot.convert("RGB").crop((0, 0, WIDTH, HEIGHT)).quantize(128).save(HERE / "report.png", optimize=True)


if __name__ == "__main__":
    main()
