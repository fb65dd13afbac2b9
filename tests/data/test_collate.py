from collections import namedtuple

import numpy as np
import pytest

from juanji.data import default_collate
from juanji.data._tensors import Tensor, to_tensor
from juanji.errors import ShapeError


def test_numbers():
    assert default_collate([1, 2]).numpy().dtype == np.int64
    assert default_collate([1.5, 2]).numpy().dtype == np.float64
    assert default_collate([1, 2.5]).numpy().tolist() == [1, 2.5]
    assert default_collate([True, False]).numpy().dtype == np.bool_
    assert default_collate([np.float32(1), np.float32(2)]).numpy().dtype == np.float32
    assert default_collate([np.uint8(1), np.uint8(2)]).numpy().dtype == np.uint8


def test_arrays_and_tensors_are_stacked():
    arrays = [np.full((2, 3), k, np.float32) for k in range(4)]
    for batch in (arrays, [to_tensor(a) for a in arrays]):
        out = default_collate(batch)
        assert isinstance(out, Tensor)
        assert out.numpy().dtype == np.float32
        assert np.array_equal(out.numpy(), np.stack(arrays))


def test_a_batch_has_memory_of_its_own():
    array = np.zeros(2)
    out = default_collate([array])
    array[0] = 7
    assert out.numpy()[0, 0] == 0


def test_structures():
    Point = namedtuple("Point", "x y")
    batch = default_collate([{"a": 1, "b": ("s", Point(1.0, [2]))}, {"a": 3, "b": ("t", Point(2.0, [5]))}])
    assert batch["a"].numpy().tolist() == [1, 3]
    texts, point = batch["b"]
    assert texts == ["s", "t"]
    assert isinstance(point, Point)
    assert point.x.numpy().tolist() == [1, 2]
    assert isinstance(point.y, list)
    assert point.y[0].numpy().tolist() == [2, 5]


def test_tuples_become_lists():
    assert isinstance(default_collate([(1, 2.0), (3, 4.0)]), list)


def test_shapes_that_differ():
    with pytest.raises(ShapeError, match=r"sample 1 of the batch has shape \(3,\), and sample 0 has \(2,\)"):
        default_collate([np.zeros(2), np.zeros(3)])
    with pytest.raises(ShapeError, match=r"different lengths \(1, 2\)"):
        default_collate([[1], [1, 2]])


def test_other_samples_are_refused():
    image = pytest.importorskip("PIL.Image").new("L", (2, 2))
    with pytest.raises(TypeError, match=r"PIL.*transforms.ToTensor\(\)"):
        default_collate([(image, 1)])
    with pytest.raises(TypeError, match="dtype"):
        default_collate([np.array(["a"])])
    with pytest.raises(TypeError, match="object"):
        default_collate([object()])
    with pytest.raises(KeyError, match="another has not"):
        default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="no samples"):
        default_collate([])
