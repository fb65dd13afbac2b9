"""Sets of pictures that lie in memory as one array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from juanji.data._tensors import Tensor, as_array, overrides_agree, to_tensor
from juanji.data.dataset import Dataset
from juanji.data.transforms import batch_function
from juanji.errors import ShapeError

if TYPE_CHECKING:
    from PIL import Image


class ArrayImages(Dataset[tuple[Any, Any]]):
    """Pictures (N, H, W) or (N, H, W, C) of uint8 with their labels (N,).

    A sample is (picture, label): a Pillow picture, or what `transform` makes of it. With
    `Compose([ToTensor(), Normalize(...)])` and the like a `DataLoader` gets whole batches straight from the
    array, bit for bit the same.

    Args:
        images: the pictures.
        labels: their class numbers.
        classes: the classes' names.
        transform: called with each picture.
        target_transform: called with each label.
        source: one line that says what set this is.

    Attributes:
        data: the pictures, a tensor over the set's own memory.
        targets: the labels, likewise, int64.

    Raises:
        ShapeError: pictures and labels that do not belong together.

    >>> pictures = ArrayImages(np.zeros((2, 4, 4), np.uint8), np.array([1, 0]), ["cat", "dog"])
    >>> picture, label = pictures[0]
    >>> picture.size, pictures.classes[label]
    ((4, 4), 'dog')
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[Any],
        classes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        source: str = "",
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ShapeError(f"images must be uint8 (N, H, W) or (N, H, W, C), and are {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1]:
            raise ShapeError(f"labels of shape {labels.shape} do not belong to {len(images):,} images")
        self.images = images
        self.labels = labels.astype(np.int64, copy=False)
        if classes is None:
            classes = [str(i) for i in range(int(self.labels.max(initial=-1)) + 1)]
        self.classes = list(classes)
        self.transform = transform
        self.target_transform = target_transform
        self.source = source

    @property
    def data(self) -> Tensor:
        """The pictures as a tensor."""
        return to_tensor(self.images)

    @data.setter
    def data(self, value: Any) -> None:
        self.images = as_array(value)

    @property
    def targets(self) -> Tensor:
        """The labels as a tensor."""
        return to_tensor(self.labels)

    @targets.setter
    def targets(self, value: Any) -> None:
        self.labels = as_array(value).astype(np.int64, copy=False)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class name."""
        return {name: i for i, name in enumerate(self.classes)}

    def describe(self) -> str:
        """One line that says what set this is."""
        return self.source or f"{type(self).__name__}, {len(self):,} pictures"

    def picture(self, index: int) -> Image.Image:
        """Sample `index` as a Pillow picture."""
        from PIL import Image

        values = self.images[index]
        return Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        picture: Any = self.picture(index)
        label: Any = int(self.labels[index])
        if self.transform is not None:
            picture = self.transform(picture)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return picture, label

    def __getbatch__(self, indices: Sequence[int]) -> list[Tensor] | None:
        if self.target_transform is not None or self.transform is None:
            return None
        batch = batch_function(self.transform)
        if batch is None or not overrides_agree(self, "__getbatch__", "picture"):
            return None
        at = np.asarray(indices, dtype=np.intp)
        return [to_tensor(batch(self.images[at])), to_tensor(self.labels[at])]

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        lines = [f"Dataset {type(self).__name__}", f"    Number of datapoints: {len(self)}"]
        if self.source:
            lines.append(f"    Source: {self.source}")
        if self.transform is not None:
            lines += ["    Transform: " + repr(self.transform).replace("\n", "\n               ")]
        return "\n".join(lines)
