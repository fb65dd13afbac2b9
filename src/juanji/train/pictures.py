"""Pictures in memory as a data set for training: bytes until a batch needs them, then normalised whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.data import Dataset
from juanji.data.randomness import sample_generator
from juanji.errors import DataError
from juanji.interop.preprocessing import Preprocessing
from juanji.tensors import Tensor, from_numpy


class Pictures(Dataset[tuple[Tensor, int]]):
    """Pictures of one size with their class numbers.

    A sample is the picture as the model takes it, float32 (channels, height, width), and its class number.

    Args:
        images: uint8, (count, height, width) for grey ones or (count, height, width, channels), as files
            hold them, or already (count, channels, height, width).
        labels: class numbers, (count,).
        preprocessing: how the bytes are normalised.
        shift: the largest random shift, in pixels up, down, left and right, of each sample; the border's
            pixels are repeated. For training only. The loader's seed gives the same shifts again.

    Raises:
        DataError: there are not as many labels as pictures, or the pictures are not of the model's size.
    """

    def __init__(
        self, images: NDArray[Any], labels: NDArray[Any], preprocessing: Preprocessing, shift: int = 0
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise DataError(
                f"pictures are {images.dtype} of shape {images.shape}; uint8 (count, height, width) is needed"
            )
        images = channels_first(images)
        if len(images) != len(labels):
            raise DataError(f"there are {len(images)} pictures and {len(labels)} labels")
        wanted = (preprocessing.channels, *preprocessing.size)
        if images.shape[1:] != wanted:
            raise DataError(f"the pictures have (channels, height, width) {images.shape[1:]}; the model takes {wanted}")
        self.images = np.ascontiguousarray(images)
        self.labels = np.ascontiguousarray(labels, dtype=np.int64)
        self.preprocessing = preprocessing
        self.shift = shift

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.__getbatch__([index])
        return images[0], int(labels[0].item())

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor]:
        at = np.asarray(indices, dtype=np.intp)
        if self.shift:
            down, right = sample_generator().integers(0, 2 * self.shift + 1, (2, len(at)))
            # Only the batch is padded: a padded copy of all pictures would take as much memory again.
            images = windows(self.images[at], self.shift)[np.arange(len(at)), :, down, right]
        else:
            images = self.images[at]
        return [from_numpy(self.preprocessing.normalize(images)), from_numpy(self.labels[at])]


def channels_first(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (count, channels, height, width) of grey or channels-last ones; others come back as they are.

    Example:
        >>> import numpy as np
        >>> [channels_first(np.zeros(s, np.uint8)).shape for s in ((2, 5, 6), (2, 5, 6, 3), (2, 3, 5, 6))]
        [(2, 1, 5, 6), (2, 3, 5, 6), (2, 3, 5, 6)]
    """
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        return images.transpose(0, 3, 1, 2)
    return images


def windows(images: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """Every position of every picture moved by up to `most` pixels, the border's pixels repeated.

    Returns:
        A view (count, channels, 2 * most + 1, 2 * most + 1, height, width) of the padded pictures;
        `[:, :, most, most]` are the pictures themselves.

    Example:
        >>> import numpy as np
        >>> moved = windows(np.array([[[[1, 2, 3]]]], np.uint8), 1)
        >>> [moved[0, 0, 1, right].tolist() for right in range(3)]
        [[[1, 1, 2]], [[1, 2, 3]], [[2, 3, 3]]]
    """
    height, width = images.shape[2:]
    return np.lib.stride_tricks.sliding_window_view(_padded(images, most), (height, width), axis=(2, 3))


def _padded(images: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """As `np.pad` with `mode="edge"`, in a fraction of its time for a small batch."""
    if not most:
        return images
    count, channels, height, width = images.shape
    padded = np.empty((count, channels, height + 2 * most, width + 2 * most), np.uint8)
    rows = padded[:, :, most:-most]
    rows[..., most:-most] = images
    rows[..., :most] = images[..., :1]
    rows[..., -most:] = images[..., -1:]
    padded[:, :, :most] = rows[:, :, :1]
    padded[:, :, -most:] = rows[:, :, -1:]
    return padded


def statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of all pixels as numbers in 0..1, to four places.

    Counted from a histogram: exact, and without a float copy of the pictures.

    Example:
        >>> import numpy as np
        >>> statistics(np.array([[0, 255]], np.uint8))
        (0.5, 0.5)
    """
    counts = np.zeros(256, np.int64)
    for part in range(0, len(images), 100):  # in parts: bincount makes eight bytes of each
        counts += np.bincount(images[part : part + 100].ravel(), minlength=256)
    levels = np.arange(256) / 255
    mean = float(counts @ levels / counts.sum())
    deviation = float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
    return round(mean, 4), max(round(deviation, 4), 1e-4)
