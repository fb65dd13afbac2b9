"""How samples become a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from juanji.data._tensors import Tensor, as_array, stack, to_tensor
from juanji.errors import ShapeError


def default_collate(batch: Sequence[Any]) -> Any:
    """Makes one batch of a list of samples.

    Tensors and NumPy arrays are stacked along a new first axis; Python floats become a float64 tensor,
    integers int64, booleans bool; strings and bytes stay a list; dictionaries, tuples and lists are gone
    into, a tuple of n fields giving a list of n batches (a named tuple stays one).

    Raises:
        TypeError: samples of another kind, such as pictures that no transform has made tensors.
        ShapeError: tensors of different shapes, sequences of different lengths.

    >>> x, y = default_collate([(np.zeros(2), 3), (np.ones(2), 4)])
    >>> x.numpy().tolist(), y.numpy().tolist()
    ([[0.0, 0.0], [1.0, 1.0]], [3, 4])
    """
    if not len(batch):
        raise ValueError("cannot make a batch of no samples")
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack_tensors(batch)
    if isinstance(first, np.ndarray):
        return _stack_arrays(batch)
    if isinstance(first, (bool, int, float, np.number, np.bool_)):
        return to_tensor(_numbers(batch))
    if isinstance(first, (str, bytes)):
        return batch if isinstance(batch, list) else list(batch)
    if isinstance(first, Mapping):
        return _like(first, {key: default_collate([_field(sample, key) for sample in batch]) for key in first})
    if isinstance(first, Sequence):
        lengths = [len(sample) for sample in batch]
        if len(set(lengths)) > 1:
            raise ShapeError(
                f"the samples of a batch have different lengths ({_few(lengths)});"
                " give the DataLoader a collate_fn that makes them equal"
            )
        columns = [default_collate(column) for column in zip(*batch, strict=True)]
        if hasattr(first, "_fields"):
            return type(first)(*columns)
        return columns if isinstance(first, tuple) else _like(first, columns)
    hint = ""
    if type(first).__module__.startswith("PIL."):
        hint = "; give the dataset transform=transforms.ToTensor()"
    raise TypeError(
        "default_collate makes batches of tensors, NumPy arrays, numbers, strings, dictionaries, tuples and"
        f" lists, and got {type(first).__module__}.{type(first).__qualname__}{hint}"
    )


def default_convert(sample: Any) -> Any:
    """A single sample with its NumPy arrays made tensors; used where `batch_size=None` turns batching off."""
    if isinstance(sample, np.ndarray) and sample.dtype.kind in "biuf":
        return to_tensor(sample)
    if isinstance(sample, Mapping):
        return _like(sample, {key: default_convert(value) for key, value in sample.items()})
    if hasattr(sample, "_fields"):
        return type(sample)(*(default_convert(value) for value in sample))
    if isinstance(sample, tuple):
        return [default_convert(value) for value in sample]
    if isinstance(sample, Sequence) and not isinstance(sample, (str, bytes)):
        return _like(sample, [default_convert(value) for value in sample])
    return sample


def _numbers(batch: Sequence[Any]) -> np.ndarray[Any, Any]:
    if isinstance(batch[0], (np.number, np.bool_)):
        return np.array(batch, dtype=np.result_type(*{sample.dtype for sample in batch}))
    if all(isinstance(sample, bool) for sample in batch):
        return np.array(batch, dtype=np.bool_)
    whole = all(isinstance(sample, (bool, int, np.integer)) for sample in batch)
    try:
        return np.array(batch, dtype=np.int64 if whole else np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the numbers of this batch do not fit in one tensor: {error}") from None


def _stack_tensors(batch: Sequence[Any]) -> Tensor:
    _same_shapes([tuple(sample.shape) for sample in batch])
    if any(sample.requires_grad for sample in batch):
        return stack(list(batch))
    return to_tensor(np.stack([sample.numpy() for sample in batch]))


def _stack_arrays(batch: Sequence[Any]) -> Tensor:
    arrays = [as_array(sample) for sample in batch]
    if arrays[0].dtype.kind not in "biuf":
        raise TypeError(
            f"arrays of dtype {arrays[0].dtype} cannot be a tensor; give numbers, or a collate_fn of your own"
        )
    _same_shapes([array.shape for array in arrays])
    return to_tensor(np.stack(arrays))


def _same_shapes(shapes: list[tuple[int, ...]]) -> None:
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ShapeError(
                f"sample {i} of the batch has shape {shape}, and sample 0 has {shapes[0]}: they"
                " cannot be stacked; make them equal (transforms.Resize) or give the DataLoader a collate_fn"
            )


def _field(sample: Mapping[Any, Any], key: Any) -> Any:
    try:
        return sample[key]
    except (KeyError, TypeError):
        raise KeyError(f"the first sample of the batch has the key {key!r}, and another has not") from None


def _like(original: Any, values: Any) -> Any:
    """`values` in the type of `original`, or as they are where that type cannot be made from them."""
    try:
        return type(original)(values)
    except TypeError:
        return values


def _few(numbers: list[int]) -> str:
    distinct = sorted(set(numbers))
    return ", ".join(str(n) for n in distinct[:4]) + (", ..." if len(distinct) > 4 else "")
