import contextlib
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from juanji.data import load_idx_folder, read_idx, write_idx
from juanji.data.idx import find_idx, read_header
from juanji.errors import DataError

DTYPES = [np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]


def header(code, *extents):
    return bytes([0, 0, code, len(extents)]) + struct.pack(f">{len(extents)}I", *extents)


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
    ),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, array, packed):
    path = tmp_path / ("a.gz" if packed else "a")
    write_idx(path, array)
    out = read_idx(path)
    assert out.dtype == array.dtype
    assert out.shape == array.shape
    assert np.array_equal(out, array, equal_nan=array.dtype.kind == "f")
    assert read_header(path).shape == array.shape
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == packed


def test_the_bytes_of_the_format(tmp_path):
    write_idx(tmp_path / "a", np.array([[1, 258]], dtype=np.int16))
    assert (tmp_path / "a").read_bytes() == header(0x0B, 1, 2) + b"\x00\x01\x01\x02"


def test_big_endian_and_sliced_arrays(tmp_path):
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2]
    write_idx(tmp_path / "a", array)
    assert read_idx(tmp_path / "a").tolist() == array.tolist()


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    write_idx(tmp_path / "a", np.zeros(3, np.uint8))

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_idx(tmp_path / "a", np.ones(3, np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert read_idx(tmp_path / "a").tolist() == [0, 0, 0]


def test_write_refuses(tmp_path):
    with pytest.raises(TypeError, match="array of int64"):
        write_idx(tmp_path / "a", np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="got shape"):
        write_idx(tmp_path / "a", np.array(3, np.uint8))


GOOD = header(8, 2, 3) + bytes(6)
PACKED = gzip.compress(GOOD)
HOSTILE = {
    "empty": (b"", "not an IDX file .* found an empty file"),
    "short": (b"\0\0", "not an IDX file"),
    "foreign": (b"\x89PNG\r\n\x1a\n", "not an IDX file .* found the bytes 89 50 4e 47"),
    "unknown type": (header(7, 2) + bytes(2), "not an IDX file"),
    "no dimension": (header(8) + bytes(1), "not an IDX file"),
    "rank 200": (bytes([0, 0, 8, 200]) + bytes(900), "not an IDX file"),
    "within header": (GOOD[:9], "ends within its header"),
    "truncated": (
        GOOD[:-1],
        "is truncated: its header declares 2 x 3 elements of uint8, 6 bytes, and 5 follow",
    ),
    "too long": (GOOD + b"x", "has bytes too many.*and 7 follow"),
    "lying": (header(8, 60000, 28, 28) + bytes(100), "is truncated: .* 47,040,000 bytes, and 100 follow"),
    "enormous": (header(14, *[2**32 - 1] * 8), "more than the 4,294,967,296 accepted"),
    "packed, truncated": (PACKED[:-9], "compressed file is truncated"),
    "packed, no checksum": (PACKED[:-8], "compressed file is truncated"),
    "packed, wrong checksum": (PACKED[:-8] + bytes(8), "compressed file is damaged"),
    "packed, damaged": (
        PACKED[:11] + b"\xff\xff" + PACKED[13:],
        "compressed file is damaged|truncated|not an IDX",
    ),
    "packed, nothing": (PACKED[:5], "compressed file is (truncated|damaged)"),
    "packed, short inside": (gzip.compress(GOOD[:-2]), "is truncated: .* 6 bytes, and 4 follow"),
    "packed, long inside": (gzip.compress(GOOD + bytes(1 << 20)), "has bytes too many"),
    "packed, lying": (
        gzip.compress(header(8, 1 << 20, 1 << 10)),
        "which [0-9]+ compressed bytes cannot hold",
    ),
    "packed, foreign": (gzip.compress(b"hello world"), "not an IDX file"),
    "packed, trailing": (PACKED + b"garbage", "compressed file is damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path, name):
    content, message = HOSTILE[name]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path, content, packed):
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(content) if packed else content)
    try:
        array = read_idx(path)
    except DataError:
        return
    assert array.nbytes < len(content)


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_wrong_byte_of_a_compressed_file(tmp_path, at, change):
    content = bytearray(PACKED)
    content[at] ^= change
    (tmp_path / "a").write_bytes(content)
    with contextlib.suppress(DataError):
        assert read_idx(tmp_path / "a").tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_limit(tmp_path):
    write_idx(tmp_path / "a", np.zeros(100, np.uint8))
    with pytest.raises(DataError, match="more than the 99 accepted"):
        read_idx(tmp_path / "a", max_bytes=99)


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="it is a folder"):
        read_idx(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")


def make_set(folder, train=6, test=3, side=4, suffix="", dash="-"):
    rng = np.random.default_rng(0)
    for stem, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        write_idx(Path(folder) / f"{stem}-images{dash}idx3-ubyte{suffix}", images)
        write_idx(Path(folder) / f"{stem}-labels{dash}idx1-ubyte{suffix}", np.arange(count, dtype=np.uint8) % 3)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dash", ["-", "."])
def test_a_folder(tmp_path, suffix, dash):
    make_set(tmp_path, suffix=suffix, dash=dash)
    train_images, train_labels, test_images, test_labels = load_idx_folder(tmp_path)
    assert train_images.shape == (6, 4, 4)
    assert test_images.shape == (3, 4, 4)
    assert train_labels.dtype == np.int64
    assert train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test_labels.tolist() == [0, 1, 2]


def test_names_with_a_prefix(tmp_path):
    for old, new in (("train", "emnist-digits-train"), ("t10k", "emnist-digits-test")):
        make_set(tmp_path / ".." / tmp_path.name)
        for kind in ("images-idx3", "labels-idx1"):
            (tmp_path / f"{old}-{kind}-ubyte").rename(tmp_path / f"{new}-{kind}-ubyte")
    for rest in tmp_path.glob("t*"):
        rest.unlink()
    assert load_idx_folder(tmp_path)[0].shape == (6, 4, 4)


def test_the_plain_file_is_taken_before_the_compressed_one(tmp_path):
    make_set(tmp_path, suffix=".gz")
    make_set(tmp_path, train=2)
    assert len(load_idx_folder(tmp_path)[0]) == 2
    assert find_idx(tmp_path, "train", "images").suffix == ""


def replace(name, array):
    def change(folder):
        write_idx(folder / name, array)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: (f / "t10k-labels-idx1-ubyte").unlink(),
            "t10k-labels-idx1-ubyte or t10k-labels.*not there",
        ),
        (
            replace("train-labels-idx1-ubyte", np.zeros(5, np.uint8)),
            "5 labels do not belong to the 6 pictures",
        ),
        (
            replace("train-labels-idx1-ubyte", np.zeros((6, 1), np.uint8)),
            "expected labels, .* shape \\(6, 1\\)",
        ),
        (replace("train-labels-idx1-ubyte", np.zeros(6, np.float32)), "expected labels, .*float32"),
        (
            replace("train-labels-idx1-ubyte", np.full(6, -1, np.int8)),
            "labels must be 0 or more, and there is -1",
        ),
        (replace("train-images-idx3-ubyte", np.zeros(6, np.uint8)), "expected pictures, .* shape \\(6,\\)"),
        (replace("train-images-idx3-ubyte", np.zeros((6, 2, 2), np.int16)), "expected pictures, .*int16"),
        (replace("train-images-idx3-ubyte", np.zeros((0, 2, 2), np.uint8)), "no pictures in it"),
        (replace("train-images-idx3-ubyte", np.zeros((6, 2, 2, 5), np.uint8)), "expected 1 or 3 channels"),
        (
            replace("train-images-idx3-ubyte", np.zeros((6, 5, 4), np.uint8)),
            "are 5 x 4 and the test pictures 4 x 4",
        ),
        (
            lambda f: make_set(f / "a") or os.rename(f / "a/t10k-images-idx3-ubyte", f / "b-t10k-images-idx3-ubyte"),
            "several sets",
        ),
    ],
)
def test_folders_that_are_no_set(tmp_path, change, message):
    make_set(tmp_path)
    (tmp_path / "a").mkdir()
    change(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load_idx_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="there is none"):
        load_idx_folder(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="it is a file"):
        load_idx_folder(tmp_path / "file")
    with pytest.raises(DataError, match="expected train-images-idx3-ubyte or"):
        load_idx_folder(tmp_path)
