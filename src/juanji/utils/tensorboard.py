"""Event files for TensorBoard, with `torch.utils.tensorboard`'s names. Needs `pip install "juanji[tensorboard]"`."""

from __future__ import annotations

import datetime
import importlib
import io
import os
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from juanji.errors import MissingExtraError
from juanji.tensors import Tensor

__all__ = ["SummaryWriter"]

_PROTO = "tensorboard.compat.proto"


class SummaryWriter:
    """Writes scalars, pictures, histograms and texts that `tensorboard --logdir=...` shows.

    Args:
        log_dir: the folder; `runs/<date>_<machine>` with `comment` behind it unless given.
        comment: what to put behind the default folder's name; ignored where `log_dir` is given.
        purge_step: TensorBoard leaves out what earlier files of the folder say of this step and later ones: for a
            training that goes on from a checkpoint.
        max_queue: so many entries wait in memory at most.
        flush_secs: so often they go to the disk.
        filename_suffix: what to put behind the file's name.

    Raises:
        MissingExtraError: the package `tensorboard` is not installed.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with SummaryWriter(folder) as writer:  # doctest: +SKIP
    ...     writer.add_scalar("loss", 0.5, global_step=1)
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        try:
            files = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        except ImportError:
            raise MissingExtraError('event files need TensorBoard: pip install "juanji[tensorboard]"') from None
        self._events = importlib.import_module(f"{_PROTO}.event_pb2")
        self._summaries = importlib.import_module(f"{_PROTO}.summary_pb2")
        self._tensors = importlib.import_module(f"{_PROTO}.tensor_pb2")
        if log_dir is None:
            now = datetime.datetime.now().strftime("%b%d_%H-%M-%S")
            log_dir = os.path.join("runs", f"{now}_{socket.gethostname()}{comment}")
        self.log_dir = os.fspath(log_dir)
        self._file: Any = files.EventFileWriter(self.log_dir, max_queue, flush_secs, filename_suffix)
        if purge_step is not None:
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._event(purge_step, None, session_log=start)

    def get_logdir(self) -> str:
        """The folder."""
        return self.log_dir

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Adds a number.

        Args:
            tag: its name; what stands before a "/" groups it with others.
            scalar_value: a number, or a tensor or array of one element.
            global_step: of the training.
            walltime: seconds since 1970; now unless given.

        Raises:
            ValueError: not one element.
        """
        values = _array(scalar_value, "scalar_value")
        if values.size != 1:
            raise ValueError(f"add_scalar: scalar_value of shape {values.shape} must have one element")
        self._summary(global_step, walltime, tag=tag, simple_value=float(values.reshape(())))

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Adds a picture.

        Args:
            tag: its name.
            img_tensor: uint8, or of floating point in 0..1; one, three or four channels.
            global_step: of the training.
            walltime: seconds since 1970; now unless given.
            dataformats: what its dimensions are: "CHW", "HWC" or "HW".

        Raises:
            ValueError: other dimensions or channels.
        """
        pixels = _pixels(img_tensor, dataformats, ("CHW", "HWC", "HW"))
        self._image(tag, pixels, global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Adds several pictures of one size as one, in a grid of eight columns at most.

        Args:
            tag: its name.
            img_tensor: as in `add_image`, with one more dimension.
            global_step: of the training.
            walltime: seconds since 1970; now unless given.
            dataformats: "NCHW", "NHWC" or "NHW".

        Raises:
            ValueError: other dimensions or channels, or no picture.
        """
        pixels = _pixels(img_tensor, dataformats, ("NCHW", "NHWC", "NHW"))
        count, height, width, channels = pixels.shape
        columns = min(8, count)
        rows = -(-count // columns)
        grid = np.zeros((rows * columns, height, width, channels), np.uint8)
        grid[:count] = pixels
        grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
        self._image(tag, grid.reshape(rows * height, columns * width, channels), global_step, walltime)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: int | None = None,
        bins: str | int | Sequence[float] = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Adds how numbers are distributed.

        Args:
            tag: its name.
            values: a tensor or array; what is infinite or no number is left out.
            global_step: of the training.
            bins: "tensorflow" for edges that grow by a tenth each, or as `numpy.histogram` takes it.
            walltime: seconds since 1970; now unless given.
            max_bins: so many bins at most; neighbours are joined.

        Raises:
            ValueError: no finite number.
        """
        numbers = _array(values, "values").astype(np.float64).ravel()
        numbers = numbers[np.isfinite(numbers)]
        if not numbers.size:
            raise ValueError("add_histogram: values has no finite number")
        counts, edges = np.histogram(numbers, _EDGES if isinstance(bins, str) and bins == "tensorflow" else bins)
        if max_bins is not None and len(counts) > max_bins:
            step = -(-len(counts) // max_bins)
            counts = np.add.reduceat(counts, np.arange(0, len(counts), step))
            edges = np.append(edges[:-1:step], edges[-1])
        there = np.flatnonzero(counts)
        if there.size:  # TensorBoard wants an empty bin on the left, and none further out
            first, last = max(0, int(there[0]) - 1), int(there[-1]) + 1
            counts, limits = counts[first:last], edges[first + 1 : last + 1]
            if first == there[0]:
                counts, limits = np.append(0, counts), np.append(edges[0], limits)
        else:
            limits = edges[1:]
        histogram = self._summaries.HistogramProto(
            min=numbers.min(), max=numbers.max(), num=numbers.size, sum=numbers.sum(),
            sum_squares=float(numbers @ numbers), bucket_limit=limits.tolist(), bucket=counts.tolist(),
        )  # fmt: skip
        self._summary(global_step, walltime, tag=tag, histo=histogram)

    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Adds a text, which TensorBoard shows as Markdown.

        Args:
            tag: its name.
            text_string: the text.
            global_step: of the training.
            walltime: seconds since 1970; now unless given.

        Raises:
            TypeError: no text.
        """
        if not isinstance(text_string, str):
            raise TypeError(f"add_text: text_string must be a str, not {type(text_string).__name__}")
        tensor = self._tensors.TensorProto(dtype="DT_STRING", string_val=[text_string.encode("utf-8", "replace")])
        plugin = self._summaries.SummaryMetadata.PluginData(plugin_name="text", content=b"")
        metadata = self._summaries.SummaryMetadata(plugin_data=plugin)
        self._summary(global_step, walltime, tag=f"{tag}/text_summary", tensor=tensor, metadata=metadata)

    def flush(self) -> None:
        """Waits until everything is on the disk."""
        self._open().flush()

    def close(self) -> None:
        """Writes what waits and closes the file; doing so again does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> Any:
        if self._file is None:
            raise ValueError("this SummaryWriter is closed")
        return self._file

    def _image(self, tag: str, pixels: NDArray[np.uint8], step: int | None, walltime: float | None) -> None:
        from PIL import Image

        target = io.BytesIO()
        height, width, channels = pixels.shape
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(target, "PNG")
        image = self._summaries.Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=target.getvalue()
        )
        self._summary(step, walltime, tag=tag, image=image)

    def _summary(self, step: int | None, walltime: float | None, **value: Any) -> None:
        if not isinstance(value["tag"], str) or not value["tag"]:
            raise TypeError(f"tag={value['tag']!r} must be a name")
        one = self._summaries.Summary.Value(**value)
        self._event(step, walltime, summary=self._summaries.Summary(value=[one]))

    def _event(self, step: int | None, walltime: float | None, **content: Any) -> None:
        event = self._events.Event(wall_time=time.time() if walltime is None else walltime, **content)
        if step is not None:
            event.step = int(step)
        self._open().add_event(event)


def _edges() -> NDArray[np.float64]:
    """Edges that grow by a tenth from 1e-12 to 1e20, on both sides of zero."""
    up = 1e-12 * 1.1 ** np.arange(775)
    return np.concatenate([-up[::-1], [0.0], up])


_EDGES = _edges()


def _array(value: Any, name: str) -> NDArray[Any]:
    if isinstance(value, Tensor):
        plain: Any = value.detach()
        return np.asarray((plain.float() if "float16" in str(plain.dtype) else plain).numpy())
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numbers: a tensor, an array or a number, not {type(value).__name__}")
    return array


def _pixels(value: Any, dataformats: str, valid: tuple[str, ...]) -> NDArray[np.uint8]:
    """Pixels uint8 (..., height, width, channels)."""
    array = _array(value, "img_tensor")
    if dataformats not in valid:
        raise ValueError(f"dataformats={dataformats!r} must be one of {', '.join(valid)}")
    if array.ndim != len(dataformats) or not array.size:
        raise ValueError(f"img_tensor of shape {array.shape} is no {dataformats}")
    if "C" not in dataformats:
        array = array[..., None]
    elif dataformats.endswith("CHW"):
        array = np.moveaxis(array, -3, -1)
    if array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"img_tensor of shape {array.shape} in {dataformats} must have 1, 3 or 4 channels")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    scaled = np.clip(np.rint(np.nan_to_num(array.astype(np.float64)) * 255), 0, 255)
    return np.ascontiguousarray(scaled.astype(np.uint8))
