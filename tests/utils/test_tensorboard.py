"""Event files: what TensorBoard itself reads from them is what was added."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

import juanji as jj
from juanji.errors import MissingExtraError
from juanji.utils.tensorboard import SummaryWriter


@pytest.fixture
def accumulator():
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder):
        found = events.EventAccumulator(
            str(folder), size_guidance=dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
        )
        found.Reload()
        return found

    return read


def test_scalars(tmp_path, accumulator):
    with SummaryWriter(tmp_path) as writer:
        for step in range(3):
            writer.add_scalar("loss/train", 1 / (step + 1), step)
        writer.add_scalar("loss/val", jj.tensor(0.25, dtype=jj.bfloat16), 2, walltime=1000.0)
        writer.add_scalar("lr", np.float32(0.5), 2)
        assert writer.get_logdir() == str(tmp_path)
    found = accumulator(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("loss/train")] == [(0, 1), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert [(e.step, e.value, e.wall_time) for e in found.Scalars("loss/val")] == [(2, 0.25, 1000)]
    assert set(found.Tags()["scalars"]) == {"loss/train", "loss/val", "lr"}


def pixels(event):
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))


def test_images(tmp_path, accumulator):
    colours = (np.arange(3 * 4 * 5) * 4 % 256).astype(np.uint8).reshape(3, 4, 5)
    with SummaryWriter(tmp_path) as writer:
        writer.add_image("bytes", jj.tensor(colours), 1)
        writer.add_image("floats", colours / 255, 1)
        writer.add_image("last", colours.transpose(1, 2, 0), 1, dataformats="HWC")
        writer.add_image("grey", colours[0], 1, dataformats="HW")
        writer.add_images("many", np.stack([colours] * 9), 1)
    found = accumulator(tmp_path)
    for tag in ("bytes", "floats", "last"):
        (event,) = found.Images(tag)
        assert (event.height, event.width, event.step) == (4, 5, 1)
        np.testing.assert_array_equal(pixels(event), colours.transpose(1, 2, 0))
    np.testing.assert_array_equal(pixels(found.Images("grey")[0]), colours[0])
    many = pixels(found.Images("many")[0])
    assert many.shape == (8, 40, 3)
    np.testing.assert_array_equal(many[4:, :5], colours.transpose(1, 2, 0))
    np.testing.assert_array_equal(many[:4, 35:], colours.transpose(1, 2, 0))
    assert not many[4:, 5:].any()


@pytest.mark.parametrize("bins", ["tensorflow", "auto", 7, [-10.0, 0.0, 0.5, 10.0]])
@pytest.mark.parametrize("max_bins", [None, 3])
def test_histograms(tmp_path, accumulator, bins, max_bins):
    values = np.random.default_rng(0).normal(size=200).astype(np.float32)
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("w", jj.tensor(np.append(values, [np.inf, np.nan])), 4, bins=bins, max_bins=max_bins)
    ((step, histogram),) = [(e.step, e.histogram_value) for e in accumulator(tmp_path).Histograms("w")]
    assert step == 4
    assert histogram.num == 200
    assert histogram.min == pytest.approx(values.min())
    assert histogram.max == pytest.approx(values.max())
    assert histogram.sum == pytest.approx(values.sum(dtype=np.float64))
    assert histogram.sum_squares == pytest.approx((values.astype(np.float64) ** 2).sum())
    assert sum(histogram.bucket) == 200
    limits = np.array(histogram.bucket_limit)
    assert (np.diff(limits) > 0).all()
    expected, before = [], -np.inf
    for limit in limits:
        expected.append(((values >= before) & (values < limit)).sum())
        before = limit
    if bins == "tensorflow":
        np.testing.assert_array_equal(histogram.bucket, expected)


def test_histogram_of_one_value(tmp_path, accumulator):
    with SummaryWriter(tmp_path) as writer:
        writer.add_histogram("zero", jj.zeros(5), 0)
    (event,) = accumulator(tmp_path).Histograms("zero")
    assert sum(event.histogram_value.bucket) == 5


def test_texts(tmp_path, accumulator):
    with SummaryWriter(tmp_path) as writer:
        writer.add_text("recipe", "# 卷积\n**head**", 1)
    found = accumulator(tmp_path)
    (event,) = found.Tensors("recipe/text_summary")
    assert event.tensor_proto.string_val[0].decode() == "# 卷积\n**head**"
    assert found.SummaryMetadata("recipe/text_summary").plugin_data.plugin_name == "text"


def test_going_on_after_a_crash(tmp_path, accumulator):
    first = SummaryWriter(tmp_path)
    for step in range(6):
        first.add_scalar("loss", step, step, walltime=step)
    first.flush()
    with SummaryWriter(tmp_path, purge_step=4, filename_suffix=".again") as second:
        second.add_scalar("loss", 40, 4)
    assert [(e.step, e.value) for e in accumulator(tmp_path).Scalars("loss")] == [
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 40),
    ]
    first.close()


def test_pytorch_writes_the_same(tmp_path, accumulator):
    pytest.importorskip("torch")
    theirs = pytest.importorskip("torch.utils.tensorboard").SummaryWriter
    values = np.random.default_rng(0).normal(size=100)
    picture = np.random.default_rng(1).integers(0, 256, (3, 6, 5)).astype(np.uint8)
    for name, kind in (("mine", SummaryWriter), ("theirs", theirs)):
        writer = kind(str(tmp_path / name))
        writer.add_scalar("a", 0.5, 3)
        writer.add_histogram("h", values, 3)
        writer.add_image("i", picture, 3)
        writer.add_text("t", "text", 3)
        writer.close()
    mine, other = accumulator(tmp_path / "mine"), accumulator(tmp_path / "theirs")
    assert mine.Scalars("a")[0].value == other.Scalars("a")[0].value
    assert mine.Tags()["tensors"] == other.Tags()["tensors"]
    np.testing.assert_array_equal(pixels(mine.Images("i")[0]), pixels(other.Images("i")[0]))
    a, b = mine.Histograms("h")[0].histogram_value, other.Histograms("h")[0].histogram_value
    np.testing.assert_allclose(a.bucket_limit, b.bucket_limit, rtol=1e-9)
    np.testing.assert_array_equal(a.bucket, b.bucket)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda w: w.add_scalar("a", [1, 2]), ValueError, r"shape \(2,\) must have one element"),
        (lambda w: w.add_scalar("a", "x"), TypeError, "scalar_value must be numbers"),
        (lambda w: w.add_scalar("", 1), TypeError, "tag=''"),
        (lambda w: w.add_image("a", np.zeros((2, 3))), ValueError, r"shape \(2, 3\) is no CHW"),
        (lambda w: w.add_image("a", np.zeros((2, 3, 3))), ValueError, "1, 3 or 4 channels"),
        (lambda w: w.add_image("a", np.zeros((3, 3)), dataformats="WH"), ValueError, "one of CHW, HWC, HW"),
        (lambda w: w.add_histogram("a", [np.nan]), ValueError, "no finite number"),
        (lambda w: w.add_text("a", 3), TypeError, "must be a str, not int"),
    ],
)
def test_refusals(tmp_path, call, error, message):
    pytest.importorskip("tensorboard")
    with SummaryWriter(tmp_path) as writer, pytest.raises(error, match=message):
        call(writer)
    with pytest.raises(ValueError, match="closed"):
        writer.add_scalar("a", 1)
    writer.close()


def test_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    with pytest.raises(MissingExtraError, match=r'pip install "juanji\[tensorboard\]"'):
        SummaryWriter(tmp_path)
    assert not list(tmp_path.iterdir())
