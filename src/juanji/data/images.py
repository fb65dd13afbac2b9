"""Opening pictures of any kind as 8-bit RGB or grey, as a person would see them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from juanji.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_GREY = {"1", "L", "LA", "La", "I", "F"}
# Reading these formats starts another program (Ghostscript) on the file.
_REFUSED = {"EPS"}


def open_image(path: str | os.PathLike[str], mode: str | None = "RGB") -> Image.Image:
    """Opens a picture: turned upright by its EXIF mark, transparency over white, 16 bits scaled to 8, first
    frame.

    Args:
        path: a file of any format that Pillow reads (EPS excepted).
        mode: "RGB", "L" (grey), or None for grey where the file is grey and RGB otherwise.

    Raises:
        DataError: a file that is missing, no picture, damaged, or of more pixels than Pillow's
            `MAX_IMAGE_PIXELS`.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGBA", (2, 1), (0, 0, 0, 0)).save(f"{folder}/clear.png")
    ...     open_image(f"{folder}/clear.png").getpixel((0, 0))
    (255, 255, 255)
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if mode not in ("RGB", "L", None):
        raise ValueError(f'mode={mode!r} must be "RGB", "L" or None')
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file" if not path.exists() else "it is no file"
        raise DataError(f"{path}: expected a picture, and {what}")
    try:
        with Image.open(path) as file:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and file.width * file.height > limit:
                raise DataError(_too_large(path, f"{file.width} x {file.height} pixels"))
            if file.format in _REFUSED:
                raise DataError(f"{path}: {file.format} files are not read; save it as PNG or JPEG")
            upright = ImageOps.exif_transpose(file)
            return _plain(upright, mode)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(_too_large(path, "its header declares even more")) from None
    except UnidentifiedImageError:
        size = path.stat().st_size
        found = f"{size:,} bytes of something else" if size else "an empty file"
        raise DataError(f"{path}: expected a picture in a format that Pillow reads, and found {found}") from None
    except PermissionError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise DataError(f"{path}: there is not enough memory for this picture") from None
    except Exception as error:  # decoders raise anything on damaged files, from OSError to struct.error
        reason = str(error) or type(error).__name__
        raise DataError(f"{path}: the picture is damaged or of an unsupported kind ({reason})") from None


def _too_large(path: Path, found: str) -> str:
    from PIL import Image

    return (
        f"{path}: the picture has more than the {Image.MAX_IMAGE_PIXELS:,} pixels accepted ({found});"
        " set PIL.Image.MAX_IMAGE_PIXELS if it is meant to"
    )


def _plain(picture: Image.Image, mode: str | None) -> Image.Image:
    """The decoded picture as RGB or L."""
    from PIL import Image

    grey = picture.mode in _GREY or picture.mode.startswith("I;16")
    wanted = mode or ("L" if grey else "RGB")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_to_bytes(np.asarray(picture)))
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert(wanted)


def _to_bytes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Values of 16 bits (or floating point) as 0..255: 65535 becomes 255, as does 1.0 where none is above."""
    if values.dtype.kind == "f":
        known = np.nan_to_num(values.astype(np.float64))
        scale = 255.0 if known.max(initial=0) <= 1 else 1.0
    else:
        known = values.astype(np.float64)
        scale = 255 / 65535
    scaled: np.ndarray[Any, np.dtype[np.uint8]] = np.clip(np.rint(known * scale), 0, 255).astype(np.uint8)
    return scaled
