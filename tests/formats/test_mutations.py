"""A thousand seeded mutations of good files of each kind: a sentence or a result; no crash, no hang, little memory.

The bytes are changed as in `test_torchfile`, which does the same with PyTorch's files. Each thousand runs in a program
of its own with a limit on its memory, so that a crash or an allocation of what a header merely claims would show.
"""

import io
import random
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import juanji as jj
from juanji.data import open_image
from juanji.errors import DataError
from juanji.interop.modelfile import load_model, save_model
from juanji.interop.preprocessing import Preprocessing

ROUNDS = 1000
#: Address space beyond what the program has before it begins, in bytes.
LIMIT = 1 << 30


def mutated(content, generator):
    content = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 8))):
        at = generator.randrange(len(content))
        kind = generator.randrange(6)
        if kind == 0:
            content[at] = generator.randrange(256)
        elif kind == 1:
            content[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del content[at : at + generator.randrange(1, 64)]
        elif kind == 3:
            content[at:at] = generator.randbytes(generator.randrange(1, 16))
        elif kind == 4:
            other = generator.randrange(len(content))
            content[at : at + 8] = content[other : other + 8]
        else:  # the beginning has the sizes
            content[generator.randrange(min(64, len(content)))] = generator.choice((0, 1, 127, 128, 255))
        if generator.random() < 0.05:
            del content[at:]
        content = content or bytearray(b"\x00")
    return bytes(content)


def pictures():
    """One small picture of each format and kind."""
    generator = np.random.default_rng(0)
    colours = Image.fromarray(generator.integers(0, 256, (21, 17, 3)).astype(np.uint8))
    deep = Image.fromarray(generator.integers(0, 65536, (9, 11)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = (
        (colours, "PNG", {}), (colours.convert("RGBA"), "PNG", {}), (colours.convert("P"), "PNG", {"transparency": 3}),
        (deep, "PNG", {}), (colours, "JPEG", {"exif": exif}), (colours, "JPEG", {"progressive": True}),
        (colours.convert("CMYK"), "JPEG", {}), (colours, "GIF", {"save_all": True, "append_images": [colours.rotate(90)] * 2}),
        (colours, "WEBP", {"lossless": True}), (colours, "BMP", {}), (colours, "TIFF", {}), (colours, "TIFF", {"compression": "tiff_lzw"}),
        (colours, "PPM", {}), (colours, "TGA", {}), (colours, "ICO", {}), (colours, "PCX", {}),
        (colours, "PNG", {"save_all": True, "append_images": [colours.rotate(180)]}),
    )  # fmt: skip
    for picture, form, options in kinds:
        target = io.BytesIO()
        picture.save(target, form, **options)
        yield target.getvalue()


def states():
    jj.manual_seed(0)
    return {
        "a": jj.rand(4, 3),
        "b": [1, {"c": jj.zeros(2), "卷积": 0.5}],
        "half": jj.ones(5).bfloat16(),
        "n": jj.arange(3),
    }


def run(kind, folder):
    """Loads mutations of good files; prints how many were refused."""
    import warnings

    warnings.simplefilter("ignore")
    generator = random.Random(1)
    path = folder / "file"
    if kind == "pictures":
        good, read = list(pictures()), open_image
    elif kind == "states":
        jj.save(states(), path)
        good, read = [path.read_bytes()], jj.load
    else:
        given = Preprocessing((28, 28), "L", (0.5,), (0.5,))
        save_model(path, jj.zoo.create("lenet", num_classes=3), classes=["a", "b", "c"], preprocessing=given)
        content = path.read_bytes()
        good, read = [content], load_model
    messages, slowest = [], 0.0
    for turn in range(ROUNDS):
        path.write_bytes(mutated(good[turn % len(good)], generator))
        began = time.perf_counter()
        try:
            read(path)
        except DataError as error:
            messages.append(str(error))
        slowest = max(slowest, time.perf_counter() - began)
    assert not [m for m in messages if "\n" in m or len(m) > 1000 or str(path) not in m]
    print(len(messages), f"{slowest:.2f}")


@pytest.mark.parametrize(("kind", "least"), [("pictures", 200), ("states", 500), ("models", 100)])
def test_a_thousand_mutations(tmp_path, kind, least):
    code = (
        "import sys; from pathlib import Path\n"
        "from formats.test_mutations import run, LIMIT\n"
        "import PIL.Image; PIL.Image.init()\n"
        "try:\n"
        "    import resource\n"
        "    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT,) * 2)\n"
        "except (ImportError, OSError):\n"
        "    pass  # another system: crashes and hangs still show\n"
        "run(sys.argv[1], Path(sys.argv[2]))"
    )
    path = [str(p) for p in sys.path if p]
    program = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}", kind, str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert program.returncode == 0, program.stderr[-3000:]
    refused, slowest = program.stdout.split()
    assert least <= int(refused) <= ROUNDS
    assert float(slowest) < 10


def claims(width, height):
    """Tiny files that say they hold very large pictures."""
    small = Image.new("RGB", (2, 2))
    for form, at, order, length in (("PNG", 16, "big", 4), ("BMP", 18, "little", 4), ("GIF", 6, "little", 2)):
        target = io.BytesIO()
        small.save(target, form)
        content = bytearray(target.getvalue())
        size = [min(n, 256**length - 1) for n in (width, height)]
        content[at : at + 2 * length] = b"".join(n.to_bytes(length, order) for n in size)
        if form == "PNG":  # its header has a checksum
            import zlib

            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
        yield form, bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (65_535, 65_535)])
def test_bombs_are_refused_by_their_size(tmp_path, size):
    for form, content in claims(*size):
        path = tmp_path / f"bomb.{form.lower()}"
        path.write_bytes(content)
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=r"pixels accepted|damaged") as caught:
                open_image(path)
            assert tracemalloc.get_traced_memory()[1] < 8 << 20
        finally:
            tracemalloc.stop()
        assert "bomb" in str(caught.value)
