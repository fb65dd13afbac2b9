"""Draws `report.png`: the beginning of the report on tuxpaint-stamps-default. Needs that package and chromium.

python docs/images/draw_report.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import juanji as jj

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
WIDTH, HEIGHT = 1120, 1190


def main():
    import stamps

    with tempfile.TemporaryDirectory() as folder:
        photos, page, picture = (Path(folder) / name for name in ("photos", "report.html", "report.png"))
        stamps.photographs(stamps.FOLDER, photos)
        jj.finetune(photos, report=page)
        command = ["chromium", "--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},2000"]
        command += [f"--user-data-dir={folder}/profile", f"--screenshot={picture}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        with Image.open(picture) as shot:
            shot.convert("RGB").crop((0, 0, WIDTH, HEIGHT)).quantize(128).save(HERE / "report.png", optimize=True)


if __name__ == "__main__":
    main()
